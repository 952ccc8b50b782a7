// Compiled with -mavx2 -mfma; empty where these flags mean nothing.
#ifdef __AVX2__

#define VECTOR_BYTES 32
#include "kernel_impl.h"

namespace fade_mm {

const Kernels* avx2_kernels() {
  static constexpr Kernels kernels = {"avx2", kernels_of<float>, kernels_of<double>};
  return &kernels;
}

}  // namespace fade_mm

#else

#include "kernel.h"

namespace fade_mm {

const Kernels* avx2_kernels() { return nullptr; }

}  // namespace fade_mm

#endif
