// What the page uses of its libraries; NOTICE says how libraries.min.js is made from this.
export {
  BufferAttribute, BufferGeometry, DirectionalLight, DoubleSide, HemisphereLight, Mesh, MeshStandardMaterial, PerspectiveCamera,
  RepeatWrapping, SRGBColorSpace, Scene, Texture, Vector3, WebGLRenderer,
} from "three";
export { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
export { dot, line, plot, pointer, rectY, ruleX, ruleY, tip } from "@observablehq/plot";
