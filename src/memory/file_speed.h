#pragma once

#include "core/page_buffer.h"
#include "formats/tensor_files.h"
#include "memory/file_reader.h"
#include "moxie/result.h"

namespace moxie {

/// Bytes a second that a reader gives of its first file's beginning, which fills the memory.
///
/// Errors: what reading reports.
Result<double> ReadWhole(FileReader& reader, const PageBuffer& memory);

/// Bytes a second at which the files are read past the page cache where the file system allows:
/// pieces from all over them, 256 MiB together where there are as many.
///
/// Errors: those of FileReader; kOverBudget without memory.
Result<double> MeasureReading(const TensorFiles& files);

}  // namespace moxie
