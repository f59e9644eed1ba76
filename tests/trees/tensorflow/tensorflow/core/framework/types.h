// Element types, and flat arrays as Eigen sees them.
#ifndef TENSORFLOW_CORE_FRAMEWORK_TYPES_H_
#define TENSORFLOW_CORE_FRAMEWORK_TYPES_H_

#include <cstdint>

#include "Eigen/Core"

namespace tensorflow {

enum class DType { kFloat, kDouble, kInt32, kInt64 };

template <typename T>
struct TypeOf;
template <>
struct TypeOf<float> {
  static constexpr DType value = DType::kFloat;
};
template <>
struct TypeOf<double> {
  static constexpr DType value = DType::kDouble;
};
template <>
struct TypeOf<int32_t> {
  static constexpr DType value = DType::kInt32;
};
template <>
struct TypeOf<int64_t> {
  static constexpr DType value = DType::kInt64;
};

template <typename T>
using Flat = Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>>;
template <typename T>
using ConstFlat = Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>>;

// Column-major: a matrix of (features, samples) is a row-major array of (samples, features).
template <typename T>
using Matrix = Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>>;
template <typename T>
using ConstMatrix = Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>>;

}  // namespace tensorflow

#endif  // TENSORFLOW_CORE_FRAMEWORK_TYPES_H_
