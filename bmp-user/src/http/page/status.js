"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const drawing = byId("drawing");
  let latest = null, before = null, chosen = null;
  const states = new Map();
  const rates = new Map();

  // Text goes in as text alone: what a daemon or an operator chose is never markup.
  const html = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
  const svg = (name, attributes = {}, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
  const fill = (element, attributes, children) => {
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  };

  // What nothing measures is null.
  const orDash = (value) => value ?? "–";
  const bytes = (number) => {
    if (number === null) return "–";
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (number >= 1024 && unit < units.length - 1) { number /= 1024; unit += 1; }
    return `${unit === 0 ? Math.round(number) : number.toFixed(1)} ${units[unit]}`;
  };
  const rate = (session) => rates.has(session.id) ? `${bytes(rates.get(session.id))}/s` : "–";
  const dump = (session) => session.dump_percent === null ? null : `${session.dump_percent.toFixed(1)} %`;
  const age = (seconds) => {
    const days = Math.floor(seconds / 86400), hours = Math.floor(seconds / 3600) % 24;
    const minutes = Math.floor(seconds / 60) % 60;
    if (days > 0) return `${days} d ${hours} h`;
    if (hours > 0) return `${hours} h ${minutes} min`;
    return minutes > 0 ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
  };
  const words = (session) => {
    const reason = session.reason === null ? "" : `: ${session.reason}`;
    return `${session.state}${reason}`;
  };
  const cut = (text, length) => text.length > length ? `${text.slice(0, length - 1)}…` : text;

  // Sessions by the interface that they leave by; those without one come last.
  const rows = (status) => {
    const groups = status.interfaces.map((uplink) => ({
      uplink, sessions: status.sessions.filter((session) => session.interface === uplink.name),
    }));
    const known = new Set(status.interfaces.map((uplink) => uplink.name));
    const others = status.sessions.filter((session) => !known.has(session.interface));
    if (others.length > 0) groups.push({ uplink: null, sessions: others });
    return groups;
  };

  const box = (x, y, width, height, kind, lines) => svg("g", { class: kind },
    svg("rect", { x, y, width, height, rx: 6 }),
    ...lines.map((line, number) => svg("text", {
      x: x + 10, y: y + 20 + number * 17, class: number === 0 ? null : "small",
    }, cut(line, Math.max(8, Math.floor((width - 16) / 7))))));

  const draw = (status) => {
    const width = Math.max(280, drawing.clientWidth), wide = width >= 720;
    const height = 66, gap = 12;
    const parts = [], lines = [];
    const columns = wide
      ? { device: 0, uplink: width * .28, session: width * .6, of: [width * .2, width * .24, width * .4] }
      : { device: 0, uplink: 18, session: 42, of: [width, width - 18, width - 42] };
    let y = wide ? 0 : height + gap;
    const groups = rows(status), ends = [];
    for (const group of groups) {
      const rowsOf = Math.max(1, group.sessions.length);
      const first = y;
      const uplinkY = wide ? first + (rowsOf * (height + gap) - gap - height) / 2 : y;
      const uplink = group.uplink;
      const texts = uplink === null
        ? ["no interface", "nothing leaves"]
        : [uplink.name, uplink.state, uplink.addresses.join(", ")];
      parts.push(box(columns.uplink, uplinkY, columns.of[1], height, uplink === null ? "down" : uplink.kind, texts));
      ends.push(uplinkY + height / 2);
      if (!wide) y += height + gap;
      for (const session of group.sessions) {
        const from = [columns.uplink + columns.of[1], uplinkY + height / 2];
        const to = [columns.session, y + height / 2];
        lines.push(svg("path", { class: session.kind, d: wide
          ? `M${from[0]} ${from[1]} C${from[0] + 40} ${from[1]} ${to[0] - 40} ${to[1]} ${to[0]} ${to[1]}`
          : `M${columns.uplink + 10} ${uplinkY + height} V${to[1]} H${to[0]}` }));
        const dumped = dump(session) === null ? "" : `dump ${dump(session)}, `;
        const measure = `${dumped}${rate(session)}, lag ${bytes(session.lag_bytes)}, ${orDash(session.denied_packets)} denied`;
        const node = box(columns.session, y, columns.of[2], height, `session ${session.kind}`,
          [session.name, words(session), measure]);
        node.setAttribute("tabindex", "0");
        node.setAttribute("role", "button");
        node.setAttribute("data-session", session.id);
        node.setAttribute("data-interface", session.interface ?? "");
        node.setAttribute("data-state", session.state);
        node.setAttribute("aria-label", `session ${session.name}, ${words(session)}, by ${session.interface ?? "no interface"}, ${measure}`);
        if (session.id === chosen) node.classList.add("chosen");
        parts.push(node);
        y += height + gap;
      }
      if (wide && group.sessions.length === 0) y += height + gap;
    }
    const total = Math.max(y - gap, height);
    const deviceY = wide ? (total - height) / 2 : 0;
    for (const end of ends) {
      lines.push(svg("path", { d: wide
        ? `M${columns.of[0]} ${deviceY + height / 2} C${columns.of[0] + 30} ${deviceY + height / 2} ${columns.uplink - 30} ${end} ${columns.uplink} ${end}`
        : `M8 ${height} V${end} H${columns.uplink}` }));
    }
    parts.unshift(box(columns.device, deviceY, columns.of[0], height, "device", [status.sysname, `bmpd ${status.version}`]));
    const focused = document.activeElement?.getAttribute?.("data-session");
    const picture = svg("svg", { viewBox: `-1 -1 ${width + 2} ${total + 2}`, height: total + 2, role: "group",
      "aria-label": "the device, its uplinks, and the sessions on them" }, ...lines, ...parts);
    drawing.replaceChildren(picture);
    if (focused) picture.querySelector(`[data-session="${CSS.escape(focused)}"]`)?.focus();
  };

  const table = (status) => {
    const cell = (text, number) => html("td", number ? { class: "number" } : {}, String(text));
    byId("rows").replaceChildren(...status.sessions.map((session) => html("tr", { "data-row": session.id },
      html("th", { scope: "row" }, session.name),
      html("td", {}, html("span", { class: `words ${session.kind}` }, words(session))),
      cell(session.interface ?? "none"),
      cell(session.mend ?? ""),
      cell(rate(session), true), cell(bytes(session.lag_bytes), true), cell(orDash(session.denied_packets), true))));
  };

  const details = (status) => {
    const session = status.sessions.find((one) => one.id === chosen);
    byId("details").hidden = session === undefined;
    if (session === undefined) return;
    const entries = [
      ["Session", session.name], ["State", `${words(session)}, for ${age(session.age_seconds)}`],
      ["Detail", session.detail], ["What mends it", session.mend], ["Leaves by", session.interface ?? "no interface"],
      ["Source", session.local_address], ["Enforcement", session.lost ?? session.enforcement],
      ["Sent", `${bytes(session.tx_bytes)}, ${rate(session)}`], ["Dump", dump(session)], ["Lag", bytes(session.lag_bytes)],
      ["Denied packets", orDash(session.denied_packets)], ["Established", `${session.established_count} time(s)`],
      ["Source changes", session.source_changes],
    ].filter(([, value]) => value !== null && value !== undefined);
    byId("entries").replaceChildren(...entries.flatMap(([name, value]) => [
      html("dt", {}, name), html("dd", {}, name === "What mends it" ? html("code", {}, value) : String(value)),
    ]));
  };

  const show = () => {
    if (latest === null) return;
    draw(latest); table(latest); details(latest);
    const up = latest.sessions.filter((session) => session.state === "up").length;
    byId("sysname").textContent = latest.sysname;
    byId("total").textContent = `${up} of ${latest.sessions.length} sessions up`;
    document.title = `${latest.sysname}: ${up} of ${latest.sessions.length} up`;
  };

  const take = (status) => {
    before = latest;
    latest = status;
    const seconds = before === null ? 0 : (latest.time_ms - before.time_ms) / 1000;
    for (const session of latest.sessions) {
      session.id = `${session.vpn_instance} ${session.station} ${session.alias ?? ""}`;
      session.kind = session.state === "up" ? "up" : session.waits ? "waiting" : "down";
      const old = before?.sessions.find((one) => one.id === session.id);
      if (session.tx_bytes === null) {
        rates.delete(session.id);
      } else if (old !== undefined && old.tx_bytes !== null && seconds > 0) {
        rates.set(session.id, Math.max(0, (session.tx_bytes - old.tx_bytes) / seconds));
      }
      const said = words(session);
      if (states.has(session.id) && states.get(session.id) !== said) {
        byId("news").textContent = `Session ${session.name} is ${said}.`;
      }
      states.set(session.id, said);
    }
    for (const uplink of latest.interfaces) uplink.kind = uplink.state === "up" ? "up" : "down";
    show();
  };

  const choose = (event) => {
    const node = event.target.closest?.("[data-session]");
    if (!node) return;
    if (event.type === "keydown") {
      const all = [...drawing.querySelectorAll("[data-session]")];
      const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
      if (step !== undefined) {
        event.preventDefault();
        all[(all.indexOf(node) + step + all.length) % all.length].focus();
        return;
      }
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
    }
    const id = node.getAttribute("data-session");
    chosen = chosen === id ? null : id;
    show();
  };
  drawing.addEventListener("click", choose);
  drawing.addEventListener("keydown", choose);
  addEventListener("resize", () => show());

  const connection = byId("connection");
  const events = new EventSource("/api/v1/events");
  events.onopen = () => { connection.textContent = "live"; connection.className = ""; };
  events.onerror = () => { connection.textContent = "no connection to bmpd: what is shown is old"; connection.className = "lost"; };
  events.onmessage = (event) => take(JSON.parse(event.data).data);
})();
