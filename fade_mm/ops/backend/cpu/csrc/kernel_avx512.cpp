// Compiled with -mavx512f -mavx512bw -mavx512dq -mavx512vl; empty where these mean nothing.
#ifdef __AVX512F__

#define VECTOR_BYTES 64
#include "kernel_impl.h"

namespace fade_mm {

const Kernels* avx512_kernels() {
  static constexpr Kernels kernels = {"avx512", kernels_of<float>, kernels_of<double>};
  return &kernels;
}

}  // namespace fade_mm

#else

#include "kernel.h"

namespace fade_mm {

const Kernels* avx512_kernels() { return nullptr; }

}  // namespace fade_mm

#endif
