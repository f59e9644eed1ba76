#pragma once
#include <cstddef>

namespace torch {

double Dot(const double* x, const double* y, std::size_t n);
const char* Compiler();
const char* Capability();

}  // namespace torch
