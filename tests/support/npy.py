"""Reads NumPy's files without NumPy: little-endian float32 and int32, format 1.0."""
import array
import ast
import pathlib
import struct


def read_npy(path):
    """Shape and flat values."""
    data = pathlib.Path(path).read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00"
    (length,) = struct.unpack("<H", data[8:10])
    header = ast.literal_eval(data[10:10 + length].decode())
    assert header["descr"] in ("<f4", "<i4") and not header["fortran_order"]
    values = array.array("f" if header["descr"] == "<f4" else "i")
    values.frombytes(data[10 + length:])
    return header["shape"], values
