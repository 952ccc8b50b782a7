// From tensors to plain data, and the tiles of a problem onto PyTorch's threads.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/utils/pybind.h>

#include <optional>
#include <string>
#include <vector>

#include "kernel.h"

#if defined(__linux__) && AT_PARALLEL_OPENMP && !defined(_OPENMP)
#error "compile with -fopenmp: without it, at::parallel_for silently runs on one thread"
#endif

namespace fade_mm {
namespace {

// What a tile may keep beside its inputs and outputs: about what a core's own cache holds.
constexpr int64_t kScratchBytes = 800 * 1024;
constexpr int64_t kMinColumns = 32;
constexpr int64_t kAlignment = 64;

using MaybeTensor = std::optional<at::Tensor>;

// The kernels that this machine can run, the best first.
const std::vector<const Kernels*>& supported_kernels() {
  static const std::vector<const Kernels*> kernels = [] {
    std::vector<const Kernels*> found;
    const auto add = [&](const Kernels* k, bool supported) {
      if (k && supported) found.push_back(k);
    };
#if defined(__x86_64__)
    __builtin_cpu_init();
    add(avx512_kernels(),
        __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"));
    add(avx2_kernels(), __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
#endif
    add(baseline_kernels(), true);
    return found;
  }();
  return kernels;
}

const Kernels* selected = supported_kernels().front();

View view(const MaybeTensor& x) {
  View view;
  if (!x) return view;
  view.data = x->data_ptr();
  switch (x->scalar_type()) {
    case at::kFloat: view.dtype = DType::kFloat; break;
    case at::kDouble: view.dtype = DType::kDouble; break;
    case at::kBFloat16: view.dtype = DType::kBFloat16; break;
    default: TORCH_CHECK_TYPE(false, "no CPU kernel for ", x->scalar_type());
  }
  for (int i = 0; i < 4; ++i) view.stride[i] = x->stride(i);
  return view;
}

Problem problem(const at::Tensor& de, const at::Tensor& logits, const MaybeTensor& logits_de,
                const MaybeTensor& gate, const MaybeTensor& en, int64_t kernel_size, int64_t step,
                bool softmax) {
  Problem p;
  p.batch = de.size(0);
  p.channels = de.size(1);
  p.low_height = de.size(2);
  p.low_width = de.size(3);
  p.height = logits.size(2);
  p.width = logits.size(3);
  p.kernel_size = kernel_size;
  p.step = step;
  p.softmax = softmax;
  p.de = view(de);
  p.logits = view(logits);
  p.logits_de = view(logits_de);
  p.gate = view(gate);
  p.en = view(en);
  return p;
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class T>
void run(Problem p, const KernelsOf<T>& kernels, bool backward) {
  int64_t& columns = p.columns = p.low_width;
  const auto scratch_size = [&] { return kernels.scratch_size(p, backward); };
  while (columns > kMinColumns && scratch_size() * int64_t(sizeof(T)) > kScratchBytes)
    columns = std::max(kMinColumns, ceil_div(ceil_div(columns, 2), 16) * 16);

  // Few tiles, since rows at their edges are computed twice, but the same number for each thread.
  const int64_t threads = at::get_num_threads();
  const int64_t across = ceil_div(p.low_width, columns), strips = p.batch * across;
  int64_t chunks = 1;
  while (chunks < p.low_height && strips * chunks % threads && strips * chunks < 4 * threads)
    ++chunks;

  at::parallel_for(0, strips * chunks, 1, [&](int64_t begin, int64_t end) {
    const int64_t padding = kAlignment / sizeof(T);
    std::unique_ptr<T[]> memory(new T[scratch_size() + padding]);
    T* scratch = memory.get();
    while (reinterpret_cast<uintptr_t>(scratch) % kAlignment) ++scratch;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t strip = i / chunks, chunk = i % chunks;
      Tile tile;
      tile.item = strip / across;
      tile.top = p.low_height * chunk / chunks;
      tile.bottom = p.low_height * (chunk + 1) / chunks;
      tile.left = strip % across * columns;
      tile.right = std::min(tile.left + columns, p.low_width);
      (backward ? kernels.backward : kernels.forward)(p, tile, scratch);
    }
  });
}

void run(const Problem& p, bool backward) {
  pybind11::gil_scoped_release release;
  if (p.de.dtype == DType::kDouble)
    run(p, selected->of_double, backward);
  else
    run(p, selected->of_float, backward);
}

void forward(const at::Tensor& out, const at::Tensor& de, const at::Tensor& logits,
             const MaybeTensor& logits_de, const MaybeTensor& gate, const MaybeTensor& en,
             int64_t kernel_size, int64_t step, bool softmax) {
  Problem p = problem(de, logits, logits_de, gate, en, kernel_size, step, softmax);
  p.out = view(out);
  run(p, false);
}

// `grads` are those of the five tensors, in their order, none where one is not needed.
void backward(const std::vector<MaybeTensor>& grads, const at::Tensor& grad, const at::Tensor& de,
              const at::Tensor& logits, const MaybeTensor& logits_de, const MaybeTensor& gate,
              const MaybeTensor& en, int64_t kernel_size, int64_t step, bool softmax) {
  Problem p = problem(de, logits, logits_de, gate, en, kernel_size, step, softmax);
  p.grad = view(grad);
  p.grad_de = view(grads[0]);
  p.grad_logits = view(grads[1]);
  p.grad_logits_de = view(grads[2]);
  p.grad_gate = view(grads[3]);
  p.grad_en = view(grads[4]);
  run(p, true);
}

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels* kernels : supported_kernels()) names.emplace_back(kernels->name);
  return names;
}

void use_instruction_set(const std::string& name) {
  for (const Kernels* kernels : supported_kernels())
    if (name == kernels->name) {
      selected = kernels;
      return;
    }
  TORCH_CHECK_VALUE(false, "this machine or binary has no instruction set '", name, "'");
}

bool is_intel() {
#ifdef __x86_64__
  return __builtin_cpu_is("intel");
#else
  return false;
#endif
}

}  // namespace
}  // namespace fade_mm

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("forward", &fade_mm::forward);
  m.def("backward", &fade_mm::backward);
  m.def("instruction_sets", &fade_mm::instruction_sets);
  m.def("use_instruction_set", &fade_mm::use_instruction_set);
  m.def("is_intel", &fade_mm::is_intel);
}
