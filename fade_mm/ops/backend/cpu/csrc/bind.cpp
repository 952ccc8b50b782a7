// The Python module: plain numbers to a problem. It is built against Python's stable interface and
// knows nothing of PyTorch, so that one binary serves every release of both.
// `fade_mm/ops/backend/cpu/__init__.py` alone calls it, with checked arguments.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstring>
#include <vector>

#include "launch.h"

namespace fade_mm {
namespace {

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

// The numbers of a tuple, as many as there must be.
bool numbers(PyObject* tuple, int64_t* found, Py_ssize_t count) {
  if (PyTuple_Size(tuple) != count) {
    if (!PyErr_Occurred()) PyErr_Format(PyExc_TypeError, "expected a tuple of %zd", count);
    return false;
  }
  for (Py_ssize_t i = 0; i < count; ++i)
    found[i] = PyLong_AsLongLong(PyTuple_GetItem(tuple, i));
  return !PyErr_Occurred();
}

// A tensor: its address, its index in `DType`, its strides; or None.
bool view(PyObject* given, View& found) {
  if (given == Py_None) return true;
  PyObject* strides;
  unsigned long long data;
  int dtype;
  if (!PyArg_ParseTuple(given, "KiO", &data, &dtype, &strides)) return false;
  found.data = reinterpret_cast<void*>(uintptr_t(data));
  found.dtype = DType(dtype);
  return numbers(strides, found.stride, 4);
}

// Arguments: threads; batch, channels, low height and width, height, width, K, step and softmax as
// one tuple; then the tensors, a `View` after the other.
PyObject* call(PyObject* const* args, Py_ssize_t count, bool backward) {
  Problem p;
  View* const common[] = {&p.de, &p.logits, &p.logits_de, &p.gate, &p.en};
  View* const of_forward[] = {&p.out};
  View* const of_backward[] = {&p.grad,           &p.grad_de,   &p.grad_logits,
                               &p.grad_logits_de, &p.grad_gate, &p.grad_en};
  const Py_ssize_t own = backward ? 6 : 1;
  if (count != 2 + 5 + own)
    return PyErr_Format(PyExc_TypeError, "expected %zd arguments", 2 + 5 + own);
  const int64_t threads = PyLong_AsLongLong(args[0]);
  int64_t sizes[9];
  if (PyErr_Occurred() || !numbers(args[1], sizes, 9)) return nullptr;
  p.batch = sizes[0];
  p.channels = sizes[1];
  p.low_height = sizes[2];
  p.low_width = sizes[3];
  p.height = sizes[4];
  p.width = sizes[5];
  p.kernel_size = sizes[6];
  p.step = sizes[7];
  p.softmax = sizes[8];
  for (int i = 0; i < 5; ++i)
    if (!view(args[2 + i], *common[i])) return nullptr;
  for (int i = 0; i < own; ++i)
    if (!view(args[7 + i], backward ? *of_backward[i] : *of_forward[i])) return nullptr;

  PyThreadState* const state = PyEval_SaveThread();
  const bool done = p.de.dtype == DType::kDouble ? run(p, selected->of_double, backward, threads)
                                                 : run(p, selected->of_float, backward, threads);
  PyEval_RestoreThread(state);
  if (!done) return PyErr_NoMemory();
  Py_INCREF(Py_None);
  return Py_None;
}

PyObject* forward(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return call(args, count, false);
}

PyObject* backward(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return call(args, count, true);
}

template <class T>
bool multiply_as(const int64_t (&sizes)[6], const unsigned long long (&data)[4], int64_t threads,
                 const KernelsOf<T>& kernels) {
  const auto at = [&](int i) { return reinterpret_cast<T*>(uintptr_t(data[i])); };
  const Product<T> p{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4],
                     sizes[5], at(0),    at(1),    at(2),    at(3)};
  return run(p, kernels, threads);
}

// Arguments: threads; batch, rows, depth, columns and the strides of `a` as one tuple; the index of
// all tensors in `DType`; the addresses of `a`, `b`, the bias (or 0) and the result.
PyObject* multiply(PyObject*, PyObject* args) {
  long long threads;
  PyObject* tuple;
  int dtype;
  unsigned long long data[4];
  int64_t sizes[6];
  if (!PyArg_ParseTuple(args, "LOiKKKK", &threads, &tuple, &dtype, data, data + 1, data + 2,
                        data + 3) ||
      !numbers(tuple, sizes, 6))
    return nullptr;
  PyThreadState* const state = PyEval_SaveThread();
  const bool done = DType(dtype) == DType::kDouble
                        ? multiply_as(sizes, data, threads, selected->of_double)
                        : multiply_as(sizes, data, threads, selected->of_float);
  PyEval_RestoreThread(state);
  if (!done) return PyErr_NoMemory();
  Py_INCREF(Py_None);
  return Py_None;
}

template <class T>
bool correlate_as(const int64_t (&sizes)[4], const unsigned long long (&data)[3], int64_t threads,
                  const KernelsOf<T>& kernels) {
  const auto at = [&](int i) { return reinterpret_cast<T*>(uintptr_t(data[i])); };
  return run(Correlation<T>{sizes[0], sizes[1], sizes[2], sizes[3], at(0), at(1), at(2)}, kernels,
             threads);
}

// Arguments: threads; batch, rows, columns and points as one tuple; the index of all tensors in
// `DType`; the addresses of `a`, `b` and the result.
PyObject* correlate(PyObject*, PyObject* args) {
  long long threads;
  PyObject* tuple;
  int dtype;
  unsigned long long data[3];
  int64_t sizes[4];
  if (!PyArg_ParseTuple(args, "LOiKKK", &threads, &tuple, &dtype, data, data + 1, data + 2) ||
      !numbers(tuple, sizes, 4))
    return nullptr;
  PyThreadState* const state = PyEval_SaveThread();
  const bool done = DType(dtype) == DType::kDouble
                        ? correlate_as(sizes, data, threads, selected->of_double)
                        : correlate_as(sizes, data, threads, selected->of_float);
  PyEval_RestoreThread(state);
  if (!done) return PyErr_NoMemory();
  Py_INCREF(Py_None);
  return Py_None;
}

PyObject* instruction_sets(PyObject*, PyObject*) {
  const auto& supported = supported_kernels();
  PyObject* names = PyList_New(Py_ssize_t(supported.size()));
  for (size_t i = 0; names && i < supported.size(); ++i)
    PyList_SetItem(names, Py_ssize_t(i), PyUnicode_FromString(supported[i]->name));
  return names;
}

PyObject* use_instruction_set(PyObject*, PyObject* given) {
  PyObject* bytes = PyUnicode_AsUTF8String(given);
  if (!bytes) return nullptr;
  const Kernels* found = nullptr;
  for (const Kernels* kernels : supported_kernels())
    if (!std::strcmp(PyBytes_AsString(bytes), kernels->name)) found = kernels;
  Py_DECREF(bytes);
  if (!found)
    return PyErr_Format(PyExc_ValueError, "this machine or binary has no instruction set %R",
                        given);
  selected = found;
  Py_INCREF(Py_None);
  return Py_None;
}

PyObject* is_intel(PyObject*, PyObject*) {
#ifdef __x86_64__
  return PyBool_FromLong(__builtin_cpu_is("intel"));
#else
  return PyBool_FromLong(0);
#endif
}

// Python's own way of telling the calling conventions apart.
template <class Function>
PyCFunction as_method(Function function) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

PyMethodDef methods[] = {
    {"forward", as_method(forward), METH_FASTCALL, nullptr},
    {"backward", as_method(backward), METH_FASTCALL, nullptr},
    {"multiply", multiply, METH_VARARGS, nullptr},
    {"correlate", correlate, METH_VARARGS, nullptr},
    {"instruction_sets", instruction_sets, METH_NOARGS, nullptr},
    {"use_instruction_set", use_instruction_set, METH_O, nullptr},
    {"is_intel", is_intel, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernels", nullptr, -1, methods};

}  // namespace
}  // namespace fade_mm

PyMODINIT_FUNC PyInit__kernels() { return PyModule_Create(&fade_mm::module); }
