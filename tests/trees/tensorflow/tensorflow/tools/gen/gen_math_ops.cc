// Writes the Python functions of the element-wise operations.
#include <cstdio>
#include <initializer_list>

int main() {
  std::puts("\"\"\"Element-wise operations. Written during the build.\"\"\"\n");
  std::puts("from tensorflow.python import ops\n");
  for (const char* name : {"add", "sub", "mul", "div", "maximum"}) {
    std::printf("\ndef %s(x, y):\n    return ops.binary(\"%s\", x, y)\n\n", name, name);
  }
  for (const char* name : {"exp", "log", "sqrt", "tanh", "sigmoid"}) {
    std::printf("\ndef %s(x):\n    return ops.unary(\"%s\", x)\n\n", name, name);
  }
  return 0;
}
