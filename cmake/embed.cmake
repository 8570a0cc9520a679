# cmake -DIN=FILE -DOUT=FILE.cc -DNAME=kName -P embed.cmake: the file's bytes as a std::string_view
# in moxie::server.
file(READ ${IN} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
file(WRITE ${OUT} "#include <string_view>\nnamespace moxie::server {\n"
  "namespace {\nconstexpr unsigned char kBytes[] = {${bytes}};\n}\n"
  "extern const std::string_view ${NAME};\n"
  "const std::string_view ${NAME}(reinterpret_cast<const char*>(kBytes), sizeof(kBytes));\n}\n")
