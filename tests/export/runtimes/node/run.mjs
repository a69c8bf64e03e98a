// node run.mjs PACKAGE MODEL FOLDER
//
// PACKAGE is onnxruntime-node or onnxruntime-web. For each FOLDER/<name>.json, a shape [batch, height, width, 3], reads
// FOLDER/<name>.images (uint8 of that shape) and writes FOLDER/<name>.mask (uint8 [batch, height, width]).

import { readFile, readdir, writeFile } from "node:fs/promises";
import path from "node:path";

const [packageName, model, folder] = process.argv.slice(2);
const ort = await import(packageName);
const options = packageName === "onnxruntime-web" ? { executionProviders: ["wasm"] } : { executionProviders: ["cpu"] };
if (packageName === "onnxruntime-web") ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(new Uint8Array(await readFile(model)), options);

for (const file of (await readdir(folder)).filter((name) => name.endsWith(".json"))) {
  const stem = path.join(folder, path.basename(file, ".json"));
  const shape = JSON.parse(await readFile(`${stem}.json`, "utf8"));
  const images = new ort.Tensor("uint8", new Uint8Array(await readFile(`${stem}.images`)), shape);
  const { mask } = await session.run({ images });
  if (mask.type !== "uint8" || mask.dims.join() !== shape.slice(0, 3).join()) {
    throw new Error(`${file}: found mask ${mask.type} [${mask.dims}], expected uint8 [${shape.slice(0, 3)}]`);
  }
  await writeFile(`${stem}.mask`, mask.data);
}
