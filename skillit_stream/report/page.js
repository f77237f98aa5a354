// Hovering, tapping or the arrow keys mark one step in all panels and show the values there in a box.
'use strict';
(() => {
  const data = JSON.parse(document.getElementById('figure-data').textContent);
  const box = make('div', 'box');
  const views = [...document.querySelectorAll('.plot[data-panel]')].map(prepare);
  let step = null, active = null;  // the step marked last, and the panel that shows it

  function make(name, kind, text = '') {
    const element = document.createElement(name);
    element.className = kind;
    element.textContent = text;
    return element;
  }

  function prepare(plot) {
    const panel = data.panels[plot.dataset.panel];
    const stops = [...new Set(panel.lines.flatMap(line => data.grids[line[1]].steps))].sort((a, b) => a - b);
    const legend = [...plot.closest('section').querySelector('.legend').children];
    const view = {plot, panel, stops, legend, line: make('div', 'line'), span: make('div', 'span')};
    for (const mark of [view.span, view.line]) {
      mark.hidden = true;
      mark.style.top = percent(panel.area[1]);
      mark.style.height = percent(panel.area[3] - panel.area[1]);
      plot.append(mark);
    }
    const label = plot.firstElementChild.getAttribute('aria-label');
    const range = {'aria-valuemin': stops[0], 'aria-valuemax': stops.at(-1), 'aria-valuenow': stops[0]};
    for (const [name, value] of Object.entries({tabindex: 0, role: 'slider', 'aria-label': label, ...range})) {
      plot.setAttribute(name, value);
    }
    plot.classList.add('live');
    plot.addEventListener('pointermove', event => show(view, under(view, event)));
    plot.addEventListener('pointerdown', event => show(view, under(view, event)));
    plot.addEventListener('pointerleave', event => { if (event.pointerType === 'mouse') clear(); });
    plot.addEventListener('focus', () => {
      if (plot.matches(':focus-visible')) show(view, stopNear(view, step ?? stops[0]));
    });
    plot.addEventListener('blur', () => { if (active === view) clear(); });
    plot.addEventListener('keydown', event => key(view, event));
    return view;
  }

  function percent(share) { return `${(100 * share).toFixed(3)}%`; }

  function across(panel, at) {  // a step as a share of the picture's width
    const [left, , right] = panel.area, [first, last] = panel.steps;
    return left + (right - left) * (at - first) / (last - first);
  }

  function under({plot, panel, stops}, event) {
    const frame = plot.getBoundingClientRect(), [left, , right] = panel.area, [first, last] = panel.steps;
    const share = ((event.clientX - frame.left) / frame.width - left) / (right - left);
    return stopNear({panel, stops}, first + share * (last - first));
  }

  function stopNear({panel, stops}, at) {
    // A mixture holds over a whole round: the step is the end of the round that the pointer is in.
    if (panel.kind === 'mixture') return stops.find(stop => stop >= at) ?? stops.at(-1);
    return stops.reduce((best, stop) => Math.abs(stop - at) < Math.abs(best - at) ? stop : best);
  }

  function key(view, event) {
    const place = view.stops.indexOf(stopNear(view, step ?? view.stops[0])), end = view.stops.length - 1;
    const moves = {
      ArrowRight: place + 1, ArrowLeft: place - 1, PageUp: place + 10, PageDown: place - 10, Home: 0, End: end,
    };
    if (event.key === 'Escape') clear();
    if (!(event.key in moves) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    show(view, view.stops[Math.min(end, Math.max(0, moves[event.key]))]);
  }

  function clear() {
    active = null;
    box.remove();
    for (const view of views) view.line.hidden = view.span.hidden = true;
  }

  function show(view, at) {
    step = at;
    active = view;
    for (const other of views) mark(other, at);
    const {title, rows} = valuesAt(view, at);
    box.replaceChildren(make('b', '', title), ...rows.map(row => row.element));
    const share = across(view.panel, at), frame = view.plot.getBoundingClientRect();
    box.style.left = share > 0.5 ? 'auto' : `calc(${percent(share)} + .5rem)`;
    box.style.right = share > 0.5 ? `calc(${percent(1 - share)} + .5rem)` : 'auto';
    // On a phone the box is a sheet at the edge of the screen that is further from the panel.
    box.classList.toggle('above', frame.top + frame.bottom > window.innerHeight);
    view.plot.append(box);
    view.plot.setAttribute('aria-valuenow', at);
    view.plot.setAttribute('aria-valuetext', [title, ...rows.map(row => row.text)].join('; '));
  }

  function mark({panel, line, span}, at) {
    line.hidden = at < panel.steps[0] || at > panel.steps[1];
    line.style.left = percent(across(panel, at));
    const {steps} = data.grids[panel.lines[0][1]];
    const end = steps.findIndex(stop => stop >= at);
    span.hidden = line.hidden || panel.kind !== 'mixture' || end < 0 || at <= panel.steps[0];
    if (span.hidden) return;
    const from = end ? steps[end - 1] : panel.steps[0];
    span.style.left = percent(across(panel, from));
    span.style.width = percent(across(panel, steps[end]) - across(panel, from));
  }

  function valuesAt({panel, legend}, at) {
    const rounds = [];
    let rows = panel.lines.map(([place, grid, values]) => {
      const {steps, rounds: ends, first} = data.grids[grid], found = steps.indexOf(at);
      // Evaluated at other steps: what was known by then.
      const index = found < 0 ? steps.findLastIndex(stop => stop <= at) : found;
      const value = index < 0 ? null : values[index];
      if (index >= 0) rounds.push(ends[index]);
      if (index >= 0 && panel.kind === 'mixture') rounds.push(index ? ends[index - 1] + 1 : first);
      const earlier = found < 0 && index >= 0 ? ` (step ${steps[index].toLocaleString('en')})` : '';
      return {value, ...entry(legend[place], number(panel.kind, value) + earlier)};
    });
    // In the order in which they lie in the picture.
    rows = panel.kind === 'mixture' ? rows.reverse() : rows.sort((a, b) => (b.value ?? -Infinity) - (a.value ?? -Infinity));
    const low = Math.min(...rounds), high = Math.max(...rounds);
    const name = low === high ? `round ${low}` : `rounds ${Math.max(low, 0)}–${high}`;
    return {title: `${high < 0 ? 'before training' : name} · step ${at.toLocaleString('en')}`, rows};
  }

  function entry(item, value) {  // names may break after their underscores
    const element = make('div', 'row'), name = item.textContent;
    element.append(item.firstElementChild.cloneNode(true), make('span', 'name', name.replaceAll('_', '_\u200b')), make('span', 'value', value));
    return {element, text: `${name} ${value}`};
  }

  function number(kind, value) {
    if (value === null) return '–';
    if (kind === 'difference') return (value > 0 ? '+' : '') + value.toFixed(4);
    if (['learning rate', 'tokens a second', 'samples a second', 'passes'].includes(kind)) {
      return value.toLocaleString('en', {maximumSignificantDigits: 4});
    }
    if (kind !== 'loss' && kind !== 'training loss') return value.toFixed(3);
    return value > 0 && value < 0.0005 ? value.toExponential(1) : value.toFixed(4);
  }

  // While the runs go on the page reads itself again, with the same rounds open; not under a reader's hands.
  const details = [...document.querySelectorAll('details')], kept = 'skillit-open';
  try {
    const opened = new Set(JSON.parse(sessionStorage.getItem(kept) ?? '[]'));
    for (const one of details) {
      one.open = opened.has(one.dataset.name);
      one.addEventListener('toggle', () => {
        const names = details.filter(other => other.open).map(other => other.dataset.name);
        sessionStorage.setItem(kept, JSON.stringify(names));
      });
    }
  } catch (error) {
    if (error.name !== 'SecurityError') throw error;  // a browser that stores nothing: all rounds are closed again
  }
  const seconds = Number(document.body.dataset.reload);
  if (seconds) setInterval(() => { if (!active) location.reload(); }, 1000 * seconds);

  document.addEventListener('pointerdown', event => { if (!event.target.closest('.plot')) clear(); });
})();
