import * as ort from './ort.wasm.min.mjs';
import {resize, resizedShape} from './preprocess.js';

ort.env.wasm.wasmPaths = './';
const at = (id) => document.getElementById(id);
const canvas = at('picture');
let session, about, shown; // `shown`: the picture and what was found in it
let camera = null;

/** Run the network on a picture: an ImageBitmap or a canvas. */
async function detect(picture) {
  const {width, height} = picture;
  const context = new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true});
  context.drawImage(picture, 0, 0);
  const rgba = context.getImageData(0, 0, width, height).data;
  const [h, w] = resizedShape(height, width, about.resize);
  const planes = resize(rgba, height, width, h, w);
  const [rows, columns] = about.resize.within || [h, w];
  const batch = about.batch || 1;
  const images = new Uint8Array(batch * 3 * rows * columns);
  for (let line = 0; line < 3 * h; line++) {
    const [plane, y] = [Math.floor(line / h), line % h];
    images.set(planes.subarray(line * w, (line + 1) * w), (plane * rows + y) * columns);
  }
  const sizes = new BigInt64Array(2 * batch).fill(1n);
  sizes.set([BigInt(h), BigInt(w)]);
  const start = performance.now();
  const found = await session.run({
    images: new ort.Tensor('uint8', images, [batch, 3, rows, columns]), sizes: new ort.Tensor('int64', sizes, [batch, 2])});
  return {picture, seconds: (performance.now() - start) / 1000, ...toDetections(found, width / w, height / h, width, height)};
}

/** The outputs for the first image, in pixels of the picture. */
function toDetections(found, scaleX, scaleY, width, height) {
  const inPicture = (data, i) => [0, 1, 2, 3].map((k) => Math.min(Math.max(
    data[i + k] * (k % 2 ? scaleY : scaleX), 0), k % 2 ? height : width));
  const count = found.scores.dims[1];
  const steps = found.stage_boxes ? found.stage_boxes.dims[1] : 1;
  const detections = [];
  for (let i = 0; i < count; i++) {
    const boxes = Array.from({length: steps}, (_, stage) => found.stage_boxes
      ? inPicture(found.stage_boxes.data, 4 * (stage * count + i)) : inPicture(found.boxes.data, 4 * i));
    const [x1, y1, x2, y2] = boxes[steps - 1];
    if (x2 > x1 && y2 > y1) {
      detections.push({boxes, score: found.scores.data[i], label: about.classes[Number(found.labels.data[i])],
                       color: `hsl(${Number(found.labels.data[i]) * 222.5 % 360} 90% 45%)`});
    }
  }
  return {detections, steps};
}

/** Draw the picture with the detections that the sliders choose. */
function draw() {
  const threshold = Number(at('threshold').value);
  at('threshold_value').textContent = threshold.toFixed(2);
  at('stage_value').textContent = `${at('stage').value} of ${at('stage').max}`;
  if (!shown) return;
  const {picture, detections, steps} = shown;
  const scale = Math.max(1, Math.round(480 / Math.min(picture.width, picture.height)));
  canvas.width = picture.width * scale;
  canvas.height = picture.height * scale;
  const context = canvas.getContext('2d');
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  context.lineWidth = Math.max(2, canvas.height / 240);
  const size = Math.max(13, Math.round(canvas.height / 36));
  context.font = `${size}px system-ui, sans-serif`;
  const stage = steps > 1 ? Number(at('stage').value) : steps - 1;
  const kept = detections.filter(({score}) => score >= threshold);
  for (const {boxes, score, label, color} of kept.slice().reverse()) {
    const [x1, y1, x2, y2] = boxes[stage].map((value) => value * scale);
    context.strokeStyle = context.fillStyle = color;
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    const text = `${label} ${score.toFixed(2)}`;
    const top = Math.max(y1 - size * 1.3, 0);
    context.fillRect(x1, top, context.measureText(text).width + 6, size * 1.3);
    context.fillStyle = 'white';
    context.fillText(text, x1 + 3, top + size);
  }
  at('message').textContent = `${kept.length} detections; ${shown.seconds.toFixed(2)} s in the network`;
}

async function show(picture) {
  shown = await detect(picture);
  at('stage_row').hidden = shown.steps === 1;
  if (Number(at('stage').max) !== shown.steps - 1 || shown.steps === 1) {
    at('stage').max = shown.steps - 1;
    at('stage').value = shown.steps - 1;
  }
  draw();
  window.found = shown.detections; // for the console
}

async function open(blob) {
  stopCamera();
  try {
    await show(await createImageBitmap(blob, {colorSpaceConversion: 'none', premultiplyAlpha: 'none'}));
  } catch (error) {
    at('message').textContent = `The picture cannot be read: ${error.message}`;
  }
}

function stopCamera() {
  camera?.getTracks().forEach((track) => track.stop());
  camera = null;
  at('camera').textContent = 'Use the camera';
}

async function startCamera() {
  if (camera) return stopCamera();
  try {
    camera = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'environment'}});
  } catch (error) {
    at('message').textContent = `There is no camera to use: ${error.message}`;
    return;
  }
  at('camera').textContent = 'Stop the camera';
  const video = document.createElement('video');
  video.srcObject = camera;
  await video.play();
  while (camera) await show(await createImageBitmap(video));
}

async function main() {
  about = await (await fetch('./model.json')).json();
  at('name').textContent = `with ${about.classes.length} classes`;
  session = await ort.InferenceSession.create('./model.onnx', {executionProviders: ['wasm']});
  at('message').textContent = 'Ready.';
  at('file').addEventListener('change', (event) => event.target.files[0] && open(event.target.files[0]));
  at('camera').addEventListener('click', startCamera);
  for (const id of ['threshold', 'stage']) at(id).addEventListener('input', draw);
  addEventListener('dragover', (event) => { event.preventDefault(); at('drop').classList.add('over'); });
  addEventListener('dragleave', () => at('drop').classList.remove('over'));
  addEventListener('drop', (event) => {
    event.preventDefault();
    at('drop').classList.remove('over');
    if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
  // index.html?picture=NAME opens a picture that lies beside the page.
  const name = new URLSearchParams(location.search).get('picture');
  if (name) await open(await (await fetch(`./${encodeURIComponent(name)}`)).blob());
}

main().catch((error) => {
  at('message').textContent = `The page cannot start: ${error.message}. It must come from a server: python -m http.server`;
});
