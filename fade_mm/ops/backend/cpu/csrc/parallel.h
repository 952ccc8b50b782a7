// Threads without a library of our own: PyTorch's pool of them where that is OpenMP's.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

#ifdef __linux__
// Of GCC's OpenMP runtime, which PyTorch brings along and loads for all to see. It is not linked
// against: a copy of it beside PyTorch's would have threads of its own, and the two would compete.
extern "C" __attribute__((weak)) void GOMP_parallel(void (*run)(void*), void* data,
                                                    unsigned threads, unsigned flags);
#else
static constexpr void (*GOMP_parallel)(void (*)(void*), void*, unsigned, unsigned) = nullptr;
#endif

namespace fade_mm {

// Call `work` once on each of at most so many threads, this one among them; it may not throw. There
// may be fewer, so each takes what is left to do.
template <class Work>
void on_threads(int64_t threads, Work work) {
  if (threads <= 1) {
    work();
  } else if (GOMP_parallel) {
    GOMP_parallel([](void* data) { (*static_cast<Work*>(data))(); }, &work, unsigned(threads), 0);
  } else {
    std::vector<std::thread> others;
    try {
      for (int64_t i = 1; i < threads; ++i) others.emplace_back([&] { work(); });
    } catch (const std::exception&) {  // the system gives no more: fewer will do
    }
    work();
    for (std::thread& other : others) other.join();
  }
}

}  // namespace fade_mm
