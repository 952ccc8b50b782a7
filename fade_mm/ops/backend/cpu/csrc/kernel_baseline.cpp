// For every machine of the architecture: SSE2 on x86-64, NEON on Arm.
#define VECTOR_BYTES 16
#include "kernel_impl.h"

namespace fade_mm {

const Kernels* baseline_kernels() {
  static constexpr Kernels kernels = {"baseline", kernels_of<float>, kernels_of<double>};
  return &kernels;
}

}  // namespace fade_mm
