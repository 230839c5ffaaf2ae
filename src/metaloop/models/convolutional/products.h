// Matrix products of a 3x3 convolution with padding 1, and its gradients, without a matrix of patches.
//
// Maps are (places, examples, channels): a tile of rows is the examples at one place, for which the same places of the kernel
// are inside the map; those outside are skipped. Weights are packed in panels of WIDTH columns, (panels, places of the kernel,
// rows, WIDTH), so that they are read from front to back.

#pragma once

#include "vectors.h"

namespace {

// Most rows of a tile: with two vectors of columns, its sums and operands fill 16 registers. float64 is for checks and compiles
// fewer.
template <class T> constexpr int TALLEST = sizeof(T) == 4 ? 6 : 2;
constexpr int FEW = 48;  // rows of 64 numbers that stay in the first cache with their partners while all tiles read them
template <class T> constexpr int WIDTH = 2 * LANES<T>;

// A convolution of maps (h, w, n, in) to (oh, ow, n, out) with a kernel of "taps" places: 9, or 1 for a product of rows alone.
struct Layer {
  long n, h, w, oh, ow, stride, taps, in, out;
  long rows() const { return oh * ow * n; }
  long size() const { return rows() * out; }
  long kernel() const { return taps * in * out; }
};

template <class T> struct Pair { const T *a, *b; };  // rows of a left factor; a panel of a right factor

// out (M rows, V vectors) = sum over pairs of a (M rows of "depth" numbers, "pitch" apart) times b (depth, V vectors).
template <class T, int M, int V>
void rows_tile(const Pair<T>* pairs, long count, long depth, long pitch, T* out, long out_pitch) {
  Vec<T> total[M][V] = {};
  for (long p = 0; p < count; ++p) {
    const T *a = pairs[p].a, *b = pairs[p].b;
    Vec<T> part[M][V] = {};  // sums of few terms, added up afterwards, round less than one long sum
    for (long k = 0; k < depth; ++k, b += V * LANES<T>) {
      Vec<T> right[V];
      for (int v = 0; v < V; ++v) right[v] = load(b + v * LANES<T>);
      for (int m = 0; m < M; ++m)
        for (int v = 0; v < V; ++v) part[m][v] += a[m * pitch + k] * right[v];
    }
    for (int m = 0; m < M; ++m)
      for (int v = 0; v < V; ++v) total[m][v] += part[m][v];
  }
  for (int m = 0; m < M; ++m)
    for (int v = 0; v < V; ++v) store(out + m * out_pitch + v * LANES<T>, total[m][v]);
}

template <class T, int V, int M = TALLEST<T>>
void rows_tile_of(long m, const Pair<T>* pairs, long count, long depth, long pitch, T* out, long out_pitch) {
  if (m == M) return rows_tile<T, M, V>(pairs, count, depth, pitch, out, out_pitch);
  if constexpr (M > 1) rows_tile_of<T, V, M - 1>(m, pairs, count, depth, pitch, out, out_pitch);
}

// Rows at places of an input that are a stride apart, and their partners, rows of an output that follow one another.
template <class T> struct Run { const T *a, *b; long places; };

// out (M, V vectors) += sum over runs of the outer products of M numbers of a row of a and V vectors of the partner of b.
template <class T, int M, int V>
void outer_tile(const Layer& l, const Run<T>* runs, long count, long row, long column, T* out) {
  Vec<T> total[M][V] = {};
  for (long run = 0; run < count; ++run) {
    const T *a = runs[run].a + row, *b = runs[run].b + column;
    for (long place = 0; place < runs[run].places; ++place, a += l.stride * l.n * l.in)
      for (const T* left = a; left < a + l.n * l.in; left += l.in, b += l.out) {
        Vec<T> right[V];
        for (int v = 0; v < V; ++v) right[v] = load(b + v * LANES<T>);
        for (int m = 0; m < M; ++m)
          for (int v = 0; v < V; ++v) total[m][v] += left[m] * right[v];
      }
  }
  for (int m = 0; m < M; ++m)
    for (int v = 0; v < V; ++v) {
      T* at = out + m * l.out + v * LANES<T>;
      store(at, load(at) + total[m][v]);
    }
}

template <class T, int V, int M = TALLEST<T>>
void outer_tile_of(long m, const Layer& l, const Run<T>* runs, long count, long row, long column, T* out) {
  if (m == M) return outer_tile<T, M, V>(l, runs, count, row, column, out);
  if constexpr (M > 1) outer_tile_of<T, V, M - 1>(m, l, runs, count, row, column, out);
}

// Calls visit(first, count) for the fewest tiles of nearly equal height that cover "rows" rows.
template <class T, class Visit> void in_tiles(long rows, Visit visit) {
  const long tiles = (rows + TALLEST<T> - 1) / TALLEST<T>;
  for (long tile = 0, at = 0; tile < tiles; ++tile) {
    const long count = rows / tiles + (tile < rows % tiles);
    visit(at, count);
    at += count;
  }
}

// out (n, columns), from "column" on by one panel = sum over pairs of the n rows at a by the panel at b.
template <class T>
void place_product(Pair<T>* pairs, long count, long n, long depth, long column, T* out, long columns) {
  const bool wide = columns - column >= WIDTH<T>;
  in_tiles<T>(n, [&](long at, long m) {
    Pair<T> moved[18];
    for (long p = 0; p < count; ++p) moved[p] = {pairs[p].a + at * depth, pairs[p].b};
    (wide ? rows_tile_of<T, 2> : rows_tile_of<T, 1>)(m, moved, count, depth, depth, out + at * columns + column, columns);
  });
}

// y (oh, ow, n, out) = the convolution of x with the packed weights w, plus that of x2 with w2 if there is one.
template <class T> void convolve(const Layer& l, const T* x, const T* w, const T* x2, const T* w2, T* y) {
  const long k = l.taps > 1 ? 3 : 1, pad = k / 2;
  for (long column = 0; column < l.out; column += WIDTH<T>) {
    const long width = l.out - column < WIDTH<T> ? l.out - column : WIDTH<T>;
    const T *panel = w + column * l.taps * l.in, *panel2 = w2 + column * l.taps * l.in;
    for (long i = 0; i < l.oh; ++i)
      for (long j = 0; j < l.ow; ++j) {
        Pair<T> pairs[18];
        long count = 0;
        for (long tap = 0; tap < l.taps; ++tap) {
          const long r = i * l.stride + tap / k - pad, c = j * l.stride + tap % k - pad;
          if (r < 0 || r >= l.h || c < 0 || c >= l.w) continue;
          const long at = (r * l.w + c) * l.n * l.in;
          pairs[count++] = {x + at, panel + tap * l.in * width};
          if (x2) pairs[count++] = {x2 + at, panel2 + tap * l.in * width};
        }
        place_product(pairs, count, l.n, l.in, column, y + (i * l.ow + j) * l.n * l.out, l.out);
      }
  }
}

// to (h, w, n, in) = the gradient of the convolution's input, given that of its output, g, and the transposed packed weights w.
template <class T> void convolve_back(const Layer& l, const T* g, const T* w, T* to) {
  for (long column = 0; column < l.in; column += WIDTH<T>) {
    const long width = l.in - column < WIDTH<T> ? l.in - column : WIDTH<T>;
    const T* panel = w + column * l.taps * l.out;
    for (long r = 0; r < l.h; ++r)
      for (long c = 0; c < l.w; ++c) {
        Pair<T> pairs[9];
        long count = 0;
        for (long tap = 0; tap < l.taps; ++tap) {
          const long i = r + 1 - tap / 3, j = c + 1 - tap % 3;
          if (i < 0 || j < 0 || i % l.stride || j % l.stride || i / l.stride >= l.oh || j / l.stride >= l.ow) continue;
          const long at = (i / l.stride * l.ow + j / l.stride) * l.n * l.out;
          pairs[count++] = {g + at, panel + tap * l.out * width};
        }
        place_product(pairs, count, l.n, l.out, column, to + (r * l.w + c) * l.n * l.in, l.in);
      }
  }
}

// to (in, out) += sum over runs of the rows' outer products.
template <class T> void outer_product(const Layer& l, const Run<T>* runs, long count, T* to) {
  in_tiles<T>(l.in, [=](long row, long m) {
    for (long column = 0; column < l.out; column += WIDTH<T>) {
      const bool wide = l.out - column >= WIDTH<T>;
      (wide ? outer_tile_of<T, 2> : outer_tile_of<T, 1>)(m, l, runs, count, row, column, to + row * l.out + column);
    }
  });
}

// to (taps, in, out) += the gradient of the kernel, given the input x and the gradient g of the output.
template <class T> void correlate(const Layer& l, const T* x, const T* g, T* to) {
  const long k = l.taps > 1 ? 3 : 1, pad = k / 2;
  for (long tap = 0; tap < l.taps; ++tap) {
    const long y = tap / k - pad, z = tap % k - pad, start = z < 0;
    long end = l.ow, rows = 0, count = 0;
    while (end > start && (end - 1) * l.stride + z >= l.w) --end;
    if (end <= start) continue;
    Run<T> runs[FEW];
    for (long i = y < 0; i < l.oh && i * l.stride + y < l.h; ++i) {
      if (count && (count == FEW || rows + (end - start) * l.n > FEW)) {
        outer_product(l, runs, count, to + tap * l.in * l.out);
        rows = count = 0;
      }
      runs[count++] = {x + ((i * l.stride + y) * l.w + start * l.stride + z) * l.n * l.in, g + (i * l.ow + start) * l.n * l.out,
                       end - start};
      rows += (end - start) * l.n;
    }
    if (count) outer_product(l, runs, count, to + tap * l.in * l.out);
  }
}

// A kernel is (out, in, 9), so that of each output "numbers" = 9 * in follow one another. Squares of outputs and numbers are
// transposed in registers; outputs come in whole vectors, and the last numbers of a few channels one by one.

// The place of number k of a kernel's outputs in (9, in).
inline long place(long k, long in) { return k % 9 * in + k / 9; }

// The packed weights of a kernel: panels of outputs, each (9, in, width).
template <class T> void pack(const Layer& l, const T* kernel, T* to) {
  const long in = l.in * l.taps / 9, numbers = 9 * in, whole = numbers / LANES<T> * LANES<T>;
  for (long o = 0; o < l.out; o += LANES<T>) {
    const long column = o / WIDTH<T> * WIDTH<T>, width = l.out - column < WIDTH<T> ? l.out - column : WIDTH<T>;
    const T* from = kernel + o * numbers;
    T* panel = to + column * numbers + o - column;
    for (long k = 0; k < whole; k += LANES<T>) {
      Vec<T> square[LANES<T>];
      for (int i = 0; i < LANES<T>; ++i) square[i] = load(from + i * numbers + k);
      transpose<T>(square);
      for (int i = 0; i < LANES<T>; ++i) store(panel + place(k + i, in) * width, square[i]);
    }
    for (long k = whole; k < numbers; ++k)
      for (int i = 0; i < LANES<T>; ++i) panel[place(k, in) * width + i] = from[i * numbers + k];
  }
}

// The transposed packed weights of a kernel: panels of inputs, each (9, out, width).
template <class T> void pack_transposed(const Layer& l, const T* kernel, T* to) {
  for (long c = 0; c < l.in; c += LANES<T>) {
    const long column = c / WIDTH<T> * WIDTH<T>, width = l.in - column < WIDTH<T> ? l.in - column : WIDTH<T>;
    for (long o = 0; o < l.out; ++o) {
      const T* from = kernel + (o * l.in + c) * 9;
      T* panel = to + (column * 9 * l.out) + o * width + c - column;
      for (long tap = 0; tap + LANES<T> <= 9; tap += LANES<T>) {
        Vec<T> square[LANES<T>];
        for (int i = 0; i < LANES<T>; ++i) square[i] = load(from + i * 9 + tap);
        transpose<T>(square);
        for (int i = 0; i < LANES<T>; ++i) store(panel + (tap + i) * l.out * width, square[i]);
      }
      for (int i = 0; i < LANES<T>; ++i) panel[8 * l.out * width + i] = from[i * 9 + 8];
    }
  }
}

// A kernel from (9, in, out).
template <class T> void unpack(const Layer& l, const T* from, T* kernel) {
  const long in = l.in * l.taps / 9, numbers = 9 * in, whole = numbers / LANES<T> * LANES<T>;
  for (long o = 0; o < l.out; o += LANES<T>) {
    T* to = kernel + o * numbers;
    for (long k = 0; k < whole; k += LANES<T>) {
      Vec<T> square[LANES<T>];
      for (int i = 0; i < LANES<T>; ++i) square[i] = load(from + place(k + i, in) * l.out + o);
      transpose<T>(square);
      for (int i = 0; i < LANES<T>; ++i) store(to + i * numbers + k, square[i]);
    }
    for (long k = whole; k < numbers; ++k)
      for (int i = 0; i < LANES<T>; ++i) to[i * numbers + k] = from[place(k, in) * l.out + o + i];
  }
}

}  // namespace
