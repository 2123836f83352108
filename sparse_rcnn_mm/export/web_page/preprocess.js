// From RGBA pixels to the network's input, by Pillow's bilinear filter with its fixed-point arithmetic.

const BITS = 22; // of the fixed-point weights, as in Pillow's Resample.c

/** [height, width] with the short side scaled to short_side; see `resized_shape` of sparse_rcnn_mm.runtime. */
export function resizedShape(height, width, {short_side, max_long_side, within}) {
  const scale = short_side / Math.min(height, width);
  let [h, w] = height < width ? [short_side, scale * width] : [scale * height, short_side];
  const shrink = (factor) => { if (factor < 1) [h, w] = [h * factor, w * factor]; };
  if (max_long_side) shrink(max_long_side / Math.max(h, w));
  if (within) shrink(Math.min(within[0] / h, within[1] / w));
  return [Math.max(Math.floor(h + 0.5), 1), Math.max(Math.floor(w + 0.5), 1)];
}

/** For every output: the first input and the weights of the inputs, a triangle that is wider where the image shrinks. */
function weights(inputs, outputs) {
  const scale = inputs / outputs;
  const support = Math.max(scale, 1);
  return Array.from({length: outputs}, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(Math.trunc(center - support + 0.5), 0);
    const end = Math.min(Math.trunc(center + support + 0.5), inputs);
    const values = [];
    for (let j = first; j < end; j++) values.push(Math.max(1 - Math.abs((j - center + 0.5) / support), 0));
    const sum = values.reduce((a, b) => a + b, 0);
    return {first, values: values.map((value) => Math.trunc(0.5 + value / sum * 2 ** BITS))};
  });
}

/** Resize along one axis: `step` lies between neighbors on it, `lines` are the starts of its lines. */
function resizeAxis(source, target, inputs, outputs, lines, step) {
  const table = weights(inputs, outputs);
  for (const [from, to] of lines) {
    for (let i = 0; i < outputs; i++) {
      const {first, values} = table[i];
      let sum = 2 ** (BITS - 1);
      for (let j = 0; j < values.length; j++) sum += values[j] * source[from + (first + j) * step];
      target[to + i * step] = Math.min(Math.max(Math.floor(sum / 2 ** BITS), 0), 255);
    }
  }
}

/** RGBA pixels (height, width, 4) as planes (3, newHeight, newWidth) of bytes. */
export function resize(rgba, height, width, newHeight, newWidth) {
  let planes = new Uint8Array(3 * height * width);
  for (let i = 0; i < height * width; i++) for (let c = 0; c < 3; c++) planes[c * height * width + i] = rgba[4 * i + c];
  if (newWidth !== width) {
    const wide = planes;
    planes = new Uint8Array(3 * height * newWidth);
    const lines = Array.from({length: 3 * height}, (_, row) => [row * width, row * newWidth]);
    resizeAxis(wide, planes, width, newWidth, lines, 1);
  }
  if (newHeight !== height) {
    const high = planes;
    planes = new Uint8Array(3 * newHeight * newWidth);
    const lines = Array.from({length: 3 * newWidth}, (_, k) => {
      const [plane, column] = [Math.floor(k / newWidth), k % newWidth];
      return [plane * height * newWidth + column, plane * newHeight * newWidth + column];
    });
    resizeAxis(high, planes, height, newHeight, lines, newWidth);
  }
  return planes;
}
