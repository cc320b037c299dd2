// Interpreter of the programs that vaex.page.program writes. Values are Float32Array in row-major order; sums are of doubles.
"use strict";

const UNARY = {
  neg: (x) => -x, exp: Math.exp, exp2: (x) => Math.pow(2, x), log: Math.log, log1p: Math.log1p, expm1: Math.expm1,
  tanh: Math.tanh, logistic: (x) => 1 / (1 + Math.exp(-x)), sin: Math.sin, cos: Math.cos, tan: Math.tan, asin: Math.asin,
  acos: Math.acos, atan: Math.atan, sinh: Math.sinh, cosh: Math.cosh, asinh: Math.asinh, acosh: Math.acosh,
  atanh: Math.atanh, sqrt: Math.sqrt, rsqrt: (x) => 1 / Math.sqrt(x), cbrt: Math.cbrt, abs: Math.abs, sign: Math.sign,
  floor: Math.floor, ceil: Math.ceil, square: (x) => x * x, trunc: Math.trunc, is_finite: (x) => +Number.isFinite(x),
  is_nonzero: (x) => +(x !== 0), not: (x) => 1 - x, erf: (x) => 1 - complementaryError(x), erfc: complementaryError,
  round_away: (x) => Math.sign(x) * Math.round(Math.abs(x)),
  round_to_even: (x) => { const r = Math.round(x); return r - x === 0.5 && r % 2 !== 0 ? r - 1 : r; },
};
const BINARY = {
  add: (a, b) => a + b, sub: (a, b) => a - b, mul: (a, b) => a * b, div: (a, b) => a / b, rem: (a, b) => a % b,
  integer_div: (a, b) => Math.trunc(a / b), max: Math.max, min: Math.min, pow: Math.pow, atan2: Math.atan2,
  eq: (a, b) => +(a === b), ne: (a, b) => +(a !== b), lt: (a, b) => +(a < b), le: (a, b) => +(a <= b),
  gt: (a, b) => +(a > b), ge: (a, b) => +(a >= b),
};
const REDUCE = {
  sum: [0, (a, b) => a + b], prod: [1, (a, b) => a * b], max: [-Infinity, Math.max], min: [Infinity, Math.min],
};

// relative error below 1.2e-7 (Numerical Recipes, section 6.2)
function complementaryError(x) {
  const t = 1 / (1 + 0.5 * Math.abs(x));
  const terms = [-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587,
    -0.82215223, 0.17087277];
  let sum = 0;
  for (let i = terms.length - 1; i >= 0; i--) sum = sum * t + terms[i];
  const r = t * Math.exp(-x * x + sum);
  return x >= 0 ? r : 2 - r;
}

const count = (shape) => shape.reduce((a, b) => a * b, 1);

// Each maker returns a function that fills `out` from the arrays of the operands.
const MAKERS = {
  unary: (step) => {
    const f = UNARY[step.function];
    return (out, [a]) => { for (let i = 0; i < out.length; i++) out[i] = f(a[i]); };
  },
  binary: (step) => {
    const f = BINARY[step.function];
    return (out, [a, b]) => {
      const p = a.length === 1 ? 0 : 1, q = b.length === 1 ? 0 : 1;
      for (let i = 0; i < out.length; i++) out[i] = f(a[i * p], b[i * q]);
    };
  },
  select: () => (out, [which, no, yes]) => {
    const w = which.length === 1 ? 0 : 1, p = no.length === 1 ? 0 : 1, q = yes.length === 1 ? 0 : 1;
    for (let i = 0; i < out.length; i++) out[i] = which[i * w] ? yes[i * q] : no[i * p];
  },
  view: (step) => {
    const { shape, strides, offset } = step, rank = shape.length;
    return (out, [a]) => {
      const index = new Int32Array(rank);
      for (let i = 0, at = offset; i < out.length; i++) {
        out[i] = a[at];
        for (let axis = rank - 1; axis >= 0; axis--) {
          at += strides[axis];
          if (++index[axis] < shape[axis]) break;
          at -= strides[axis] * shape[axis];
          index[axis] = 0;
        }
      }
    };
  },
  pad: (step, shapes) => {
    const { shape, low, steps } = step, inner = shapes[0], rank = shape.length;
    return (out, [a, value]) => {
      out.fill(value[0]);
      const index = new Int32Array(rank);
      for (let i = 0; i < a.length; i++) {
        let at = 0, inside = true;
        for (let axis = 0; axis < rank; axis++) {
          const place = low[axis] + index[axis] * steps[axis];
          inside = inside && place >= 0 && place < shape[axis];
          at = at * shape[axis] + place;
        }
        if (inside) out[at] = a[i];
        for (let axis = rank - 1; axis >= 0 && ++index[axis] === inner[axis]; axis--) index[axis] = 0;
      }
    };
  },
  concatenate: (step) => (out, parts) => {
    for (let row = 0, at = 0; row < step.outer; row++) {
      for (const part of parts) {
        const size = part.length / step.outer;
        out.set(part.subarray(row * size, (row + 1) * size), at);
        at += size;
      }
    }
  },
  reduce: (step) => {
    if (step.kind === "argmax") {
      return (out, [a]) => {
        for (let i = 0; i < out.length; i++) {
          let best = 0;
          for (let j = 1; j < step.length; j++) if (a[i * step.length + j] > a[i * step.length + best]) best = j;
          out[i] = best;
        }
      };
    }
    const [start, f] = REDUCE[step.kind];
    return (out, [a]) => {
      for (let i = 0; i < out.length; i++) {
        let total = start;
        for (let j = 0; j < step.length; j++) total = f(total, a[i * step.length + j]);
        out[i] = total;
      }
    };
  },
  matmul: (step, shapes) => {
    const [batch, m, k] = shapes[0], n = shapes[1][2], row = new Float64Array(n);
    return (out, [a, b]) => {
      for (let i = 0; i < batch * m; i++) {
        const right = Math.floor(i / m) * k * n;
        row.fill(0);
        for (let j = 0; j < k; j++) {
          const x = a[i * k + j];
          if (x === 0) continue; // after a rectifier, half of them
          for (let l = 0, at = right + j * n; l < n; l++) row[l] += x * b[at + l];
        }
        out.set(row, i * n);
      }
    };
  },
  convolve: (step, shapes) => {
    const [, id, ih, iw, ci] = shapes[0], [kd, kh, kw, , co] = shapes[1], [n, od, oh, ow] = step.shape;
    const row = new Float64Array(co);
    // taps[axis][o]: pairs (tap, input) that an output place o reads; inputs between dilated pixels are zero and left out
    const taps = [[od, kd, id], [oh, kh, ih], [ow, kw, iw]].map(([outputs, kernel, inputs], axis) =>
      Array.from({ length: outputs }, (_, o) => {
        const pairs = [];
        for (let tap = 0; tap < kernel; tap++) {
          const at = o * step.strides[axis] + tap * step.kernel_dilation[axis] - step.low[axis];
          const place = at / step.image_dilation[axis];
          if (Number.isInteger(place) && place >= 0 && place < inputs) pairs.push([tap, place]);
        }
        return pairs;
      }));
    return (out, [image, kernel]) => {
      let at = 0;
      for (let i = 0; i < n; i++) for (let d = 0; d < od; d++) for (let h = 0; h < oh; h++) for (let w = 0; w < ow; w++) {
        row.fill(0);
        for (const [td, pd] of taps[0][d]) for (const [th, ph] of taps[1][h]) for (const [tw, pw] of taps[2][w]) {
          const from = (((i * id + pd) * ih + ph) * iw + pw) * ci, weight = ((td * kh + th) * kw + tw) * ci * co;
          for (let c = 0; c < ci; c++) {
            const x = image[from + c];
            if (x === 0) continue;
            for (let l = 0, k = weight + c * co; l < co; l++) row[l] += x * kernel[k + l];
          }
        }
        out.set(row, at);
        at += co;
      }
    };
  },
};

// Returns a function of arrays. What depends on constants alone is computed here, once.
function compileProgram(program, constants) {
  const shapes = {}, values = {}, fixed = new Set();
  program.inputs.forEach((shape, i) => { shapes[i] = shape; });
  for (const { number, shape } of program.constants) {
    shapes[number] = shape;
    values[number] = constants[number];
    fixed.add(number);
  }
  const steps = [];
  for (const step of program.steps) {
    shapes[step.result] = step.shape;
    const isFixed = step.takes.every((number) => fixed.has(number));
    let run;
    if (step.name === "reshape") {
      run = () => { values[step.result] = values[step.takes[0]]; };
    } else {
      const fill = MAKERS[step.name](step, step.takes.map((number) => shapes[number]));
      const out = values[step.result] = new Float32Array(count(step.shape));
      run = () => fill(out, step.takes.map((number) => values[number]));
    }
    if (isFixed) { fixed.add(step.result); run(); } else steps.push(run);
  }
  return (...inputs) => {
    inputs.forEach((input, i) => { values[i] = input; });
    for (const run of steps) run();
    return Float32Array.from(values[program.result]);
  };
}
