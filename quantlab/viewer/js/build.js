// Bundles src/ into ../static/viewer.js and writes the licences of what went in; nothing of this runs in the lab.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

// A test compares this with the sources, so that a bundle that was not rebuilt is noticed without Node.
const digest = createHash("sha256");
const sources = readdirSync("src").sort().map((name) => `src/${name}`);
for (const name of [...sources, "build.js", "package-lock.json"]) digest.update(readFileSync(name));

const result = await build({
  entryPoints: ["src/index.js"],
  outfile: "../static/viewer.js",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "inline",
  banner: { js: `// QuantLab viewer, sources sha256 ${digest.digest("hex")}` },
  metafile: true,
  logLevel: "info",
});

const packages = new Set();
for (const input of Object.keys(result.metafile.inputs)) {
  const found = input.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)\//);
  if (found) packages.add(found[1]);
}
const parts = [...packages].sort().map((name) => {
  const { version, license, homepage } = JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8"));
  const text = readFileSync(`node_modules/${name}/LICENSE`, "utf8").trim();
  return `${name} ${version} (${license})\n${homepage ?? ""}\n\n${text}\n`;
});
writeFileSync("../static/LICENSES.txt", `viewer.js contains the following packages.\n\n${parts.join("\n\n")}`);
