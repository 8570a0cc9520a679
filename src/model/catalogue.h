#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "model/config.h"

namespace moxie {

/// A published model whose shape is known without a file.
struct CatalogueModel {
  std::string_view name;    ///< as on the command line: "mixtral-8x7b"
  std::string_view source;  ///< where its shape is published
  ModelConfig config;       ///< config.name is the model's name for people
};

/// Every model of the catalogue, families together, small ones first.
std::vector<CatalogueModel> Catalogue();

/// The model of that name, upper and lower case alike, or nothing.
std::optional<CatalogueModel> FindInCatalogue(std::string_view name);

}  // namespace moxie
