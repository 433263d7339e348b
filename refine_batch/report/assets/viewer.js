// The meshes in 3D, by three.js. Browsers allow few WebGL contexts, so one renderer draws every view and the picture is
// copied into the view's own canvas; what is not on the screen is not drawn. The meshes of an instance share a camera.
"use strict";
(() => {
  const {
    BufferAttribute, BufferGeometry, DirectionalLight, DoubleSide, HemisphereLight, Mesh, MeshStandardMaterial, OrbitControls,
    PerspectiveCamera, RepeatWrapping, SRGBColorSpace, Scene, Texture, Vector3, WebGLRenderer,
  } = libraries;
  const COLOURS = { coarse: 0xe69f00, refined: 0x2b8fd0, truth: 0x009e73 };
  const TURN = Math.PI / 24;
  const LINEAR = Float32Array.from({ length: 256 }, (_, i) => (i <= 10 ? i / 255 / 12.92 : ((i / 255 + 0.055) / 1.055) ** 2.4));
  const places = document.querySelectorAll("[data-view]");
  if (!places.length) return;

  let renderer;
  try {
    renderer = new WebGLRenderer({ antialias: true, alpha: true });
  } catch {
    for (const place of places) place.replaceChildren("The 3D views need WebGL, which this browser does not offer.");
    return;
  }
  const scene = new Scene();
  const sun = new DirectionalLight(0xffffff, 2.2);
  scene.add(new HemisphereLight(0xffffff, 0x8a8f98, 1.5), sun, sun.target);
  const [wireframe, texture] = ["wireframe", "texture"].map((id) => document.getElementById(id));
  const every = [];
  function material(options) {
    const made = new MeshStandardMaterial({ roughness: 0.75, metalness: 0, flatShading: true, side: DoubleSide, ...options });
    made.wireframe = wireframe.checked;
    every.push(made);
    return made;
  }
  const plain = Object.fromEntries(Object.entries(COLOURS).map(([name, color]) => [name, material({ color })]));
  const coloured = material({ vertexColors: true });

  function bytes(text) {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  }

  function geometry(mesh) {
    const steps = new Uint16Array(bytes(mesh.vertices).buffer);
    const positions = new Float32Array(steps.length);
    for (let i = 0; i < steps.length; i++) positions[i] = mesh.low[i % 3] + (mesh.size[i % 3] * steps[i]) / 65535;
    const buffer = bytes(mesh.faces).buffer;
    const made = new BufferGeometry();
    made.setAttribute("position", new BufferAttribute(positions, 3));
    made.setIndex(new BufferAttribute(mesh.wide ? new Uint32Array(buffer) : new Uint16Array(buffer), 1));
    if (mesh.colours) {
      // The renderer reckons in linear light.
      const colours = Float32Array.from(bytes(mesh.colours), (level) => LINEAR[level]);
      made.setAttribute("color", new BufferAttribute(colours, 3));
    }
    if (mesh.uv) {
      const places = new Uint16Array(bytes(mesh.uv).buffer);
      const uv = Float32Array.from(places, (step, i) => mesh.uvLow[i % 2] + (mesh.uvSize[i % 2] * step) / 65535);
      made.setAttribute("uv", new BufferAttribute(uv, 2));
      mesh.groups.forEach(([, start, count], at) => made.addGroup(start, count, at));
    }
    made.computeBoundingSphere();
    return made;
  }

  // One instance: its meshes, and the camera they share.
  class Instance {
    constructor(place) {
      this.view = report.data.views[Number(place.dataset.view)];
      this.canvases = [...place.querySelectorAll("canvas")];
      this.camera = new PerspectiveCamera(60, 1, 0.01, 100);
      this.visible = false;
      this.waiting = false;
      this.meshes = null;
    }

    // Made when the instance first comes into view: most of a page is never looked at.
    make() {
      this.textures = (this.view.look?.textures ?? []).map((source) => this.texture(source));
      this.looks = (this.view.look?.materials ?? []).map(({ colour, texture }) => {
        const made = material({ vertexColors: true, map: texture === null ? null : this.textures[texture] });
        made.color.setRGB(...colour);
        return made;
      });
      this.meshes = new Map(
        this.canvases.map((canvas) => [canvas, new Mesh(geometry(this.view.meshes[canvas.dataset.mesh]))]),
      );
      this.dress();
      this.radius = Math.max(...[...this.meshes.values()].map(({ geometry: { boundingSphere: s } }) => s.center.length() + s.radius));
      this.home();
      this.controls = this.canvases.map((canvas) => this.control(canvas));
    }

    texture(source) {
      const image = new Image();
      const made = new Texture(image);
      made.colorSpace = SRGBColorSpace;
      made.wrapS = made.wrapT = RepeatWrapping;
      made.flipY = false;
      image.onload = () => {
        made.needsUpdate = true;
        this.redraw();
      };
      image.src = source;
      return made;
    }

    // In the mesh's own look where it has one and that is asked for, else in the colour of what it is.
    dress() {
      for (const [canvas, mesh] of this.meshes ?? []) {
        const name = canvas.dataset.mesh;
        const { groups, colours } = texture?.checked ? this.view.meshes[name] : {};
        if (groups) mesh.material = groups.map(([at]) => this.looks[at]);
        else mesh.material = colours ? coloured : plain[name];
      }
    }

    control(canvas) {
      const controls = new OrbitControls(this.camera, canvas);
      controls.enablePan = false;
      // A page is scrolled more often than a mesh is zoomed: the wheel zooms only what was clicked.
      controls.enableZoom = false;
      canvas.style.touchAction = "pan-y";
      controls.addEventListener("change", () => this.redraw());
      canvas.addEventListener("pointerdown", () => canvas.focus({ preventScroll: true }));
      canvas.addEventListener("focus", () => (controls.enableZoom = true));
      canvas.addEventListener("blur", () => (controls.enableZoom = false));
      canvas.addEventListener("keydown", (event) => this.key(event));
      return controls;
    }

    // The camera of the image, or one that sees everything.
    home() {
      const given = this.view.camera;
      const { azimuth, elevation, distance, fov } = given ?? { azimuth: 35, elevation: 20, distance: 2.4 * this.radius, fov: 50 };
      const [a, e] = [(azimuth * Math.PI) / 180, (Math.max(-89.9, Math.min(89.9, elevation)) * Math.PI) / 180];
      this.camera.fov = fov;
      this.camera.position.set(Math.cos(e) * Math.sin(a), Math.sin(e), Math.cos(e) * Math.cos(a)).multiplyScalar(distance);
      this.camera.near = distance / 100;
      this.camera.far = distance + 4 * this.radius;
      this.camera.lookAt(0, 0, 0);
      this.camera.updateProjectionMatrix();
    }

    turn(across, up) {
      const [distance, polar] = [this.camera.position.length(), Math.acos(this.camera.position.y / this.camera.position.length())];
      const azimuth = Math.atan2(this.camera.position.x, this.camera.position.z) + across;
      this.camera.position.setFromSphericalCoords(distance, Math.max(0.01, Math.min(Math.PI - 0.01, polar - up)), azimuth);
      this.camera.lookAt(0, 0, 0);
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const actions = {
        ArrowLeft: () => this.turn(-TURN, 0), ArrowRight: () => this.turn(TURN, 0),
        ArrowUp: () => this.turn(0, TURN), ArrowDown: () => this.turn(0, -TURN),
        "+": () => this.camera.position.multiplyScalar(0.9), "=": () => this.camera.position.multiplyScalar(0.9),
        "-": () => this.camera.position.multiplyScalar(1.1), Home: () => this.home(),
      };
      const action = actions[event.key];
      if (!action) return;
      event.preventDefault();
      action();
      this.redraw();
    }

    redraw() {
      if (!this.visible || this.waiting) return;
      this.waiting = true;
      requestAnimationFrame(() => {
        this.waiting = false;
        if (this.visible) this.draw();
      });
    }

    draw() {
      if (!this.meshes) this.make();
      const { camera } = this;
      camera.updateMatrixWorld();
      // The light stands over the viewer's left shoulder.
      sun.position.copy(new Vector3(-0.6, 0.9, 0.8).applyQuaternion(camera.quaternion));
      for (const [canvas, mesh] of this.meshes) {
        const side = Math.round(canvas.clientWidth * Math.min(window.devicePixelRatio || 1, 2));
        if (!side) continue;
        if (canvas.width !== side) canvas.width = canvas.height = side;
        if (renderer.domElement.width !== side) renderer.setSize(side, side, false);
        scene.add(mesh);
        renderer.render(scene, camera);
        scene.remove(mesh);
        const context = canvas.getContext("2d");
        context.clearRect(0, 0, side, side);
        context.drawImage(renderer.domElement, 0, 0);
      }
    }
  }

  const instances = new Map([...places].map((place) => [place, new Instance(place)]));
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        const instance = instances.get(target);
        instance.visible = isIntersecting;
        instance.redraw();
      }
    },
    { rootMargin: "200px" },
  );
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) instances.get(target).redraw();
  });
  for (const place of places) {
    watcher.observe(place);
    sizes.observe(place);
  }
  const redrawAll = () => instances.forEach((instance) => instance.redraw());
  renderer.domElement.addEventListener("webglcontextrestored", redrawAll);
  wireframe.addEventListener("change", () => {
    for (const made of every) made.wireframe = wireframe.checked;
    redrawAll();
  });
  texture?.addEventListener("change", () => {
    instances.forEach((instance) => instance.dress());
    redrawAll();
  });
})();
