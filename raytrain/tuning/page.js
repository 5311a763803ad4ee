'use strict'
// One trial is chosen at a time, in all charts at once; filters take trials out of all of them.
const all = (selector, within = document) => [...within.querySelectorAll(selector)]
const byId = id => document.getElementById(id)
const REACH = 28  // CSS pixels from a pointer to the line that it means
const charts = all('.chart').map(box => ({ box, svg: box.querySelector('svg'), lines: all('.trial', box) }))
const crossings = all('[data-at]').map(line => ({ trial: line.dataset.trial, at: JSON.parse(line.dataset.at) }))
const panels = all('[data-panel]')  // best first
const out = new Set()  // trials that the filters take out
let chosen = panels.find(panel => !panel.hidden)?.dataset.panel

function choose(trial) {
  chosen = trial
  all('.on').forEach(old => old.classList.remove('on'))
  all(`[data-trial="${trial}"]`).forEach(mark => mark.classList.add('on'))
  for (const { svg, lines } of charts)
    svg.append(...lines.filter(line => line.dataset.trial === trial))  // above the others
  for (const panel of panels) panel.hidden = panel.dataset.panel !== trial
  const said = panels.find(panel => !panel.hidden).querySelector('.summary').textContent
  all('.readout').forEach(line => { line.textContent = said })
  for (const label of all('.n.chosen')) {
    const point = all('.trial.on', label.parentNode)[0]?.points[0]
    label.hidden = !point
    if (point) Object.assign(label.style, { left: `${point.x}%`, top: `${point.y}%` })
    label.textContent = trial
  }
}

function toSegment(x, y, a, b) {
  const dx = b[0] - a[0], dy = b[1] - a[1]
  const share = Math.min(1, Math.max(0, ((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy || 1)))
  return Math.hypot(x - a[0] - share * dx, y - a[1] - share * dy)
}

/** The trial whose line passes nearest to a pointer, if it is near enough. */
function trialAt(chart, event) {
  const frame = chart.svg.getBoundingClientRect()
  const x = event.clientX - frame.left, y = event.clientY - frame.top
  let found, least = REACH
  for (const line of chart.lines) {
    if (out.has(line.dataset.trial)) continue
    const points = Array.from(line.points, p => [p.x * frame.width / 100, p.y * frame.height / 100])
    for (let i = 1; i < points.length; i++) {
      const distance = toSegment(x, y, points[i - 1], points[i])
      if (distance < least) [found, least] = [line.dataset.trial, distance]
    }
  }
  return found
}

function step(by) {
  const left = panels.map(panel => panel.dataset.panel).filter(trial => !out.has(trial))
  const next = left.indexOf(chosen) + by
  if (left.length) choose(left[Math.min(left.length - 1, Math.max(0, next))])
}

const KEYS = {
  ArrowRight: () => step(1), ArrowDown: () => step(1), ArrowLeft: () => step(-1), ArrowUp: () => step(-1),
  Home: () => step(-Infinity), End: () => step(Infinity),
}

for (const chart of charts) {
  const point = event => {
    const trial = !event.target.closest('button') && trialAt(chart, event)
    if (trial) choose(trial)
  }
  chart.box.addEventListener('pointermove', event => event.pointerType === 'mouse' && point(event))
  chart.box.addEventListener('click', point)
  chart.box.addEventListener('focus', () => chosen && choose(chosen))
  chart.box.addEventListener('keydown', event => {
    if (event.target !== chart.box || !Object.hasOwn(KEYS, event.key)) return
    if (event.ctrlKey || event.metaKey || event.altKey) return
    event.preventDefault()
    KEYS[event.key]()
  })
  Object.assign(chart.box, { tabIndex: 0, role: 'application' })
  chart.box.setAttribute('aria-label', `${chart.svg.getAttribute('aria-label')}. Arrow keys go through the trials.`)
}

// Filters

const choices = all('button[data-choice]'), ranges = all('fieldset[data-axis]')

function valueAt({ low, high, log }, share) {
  const value = +log ? low * (high / low) ** share : +low + share * (high - low)
  return String(+value.toPrecision(2)).replace('-', '−')
}

function filter() {
  const tests = []
  for (const button of choices) {
    if (button.ariaPressed !== 'true') continue
    const axis = +button.dataset.axis
    tests[axis] ??= Object.assign(at => tests[axis].allowed.has(at), { allowed: new Set() })
    tests[axis].allowed.add(JSON.parse(button.dataset.choice))
  }
  for (const range of ranges) {
    const [from, to] = all('input', range).map(input => +input.value)
    const whole = from <= 0 && to >= 1
    range.querySelector('output').textContent = whole ? 'all' : `${valueAt(range.dataset, from)} to ${valueAt(range.dataset, to)}`
    const among = tests[range.dataset.axis]
    if (!whole) tests[range.dataset.axis] = at => among?.(at) || at !== null && from <= at && at <= to
  }
  out.clear()
  for (const { trial, at } of crossings) if (!tests.every((test, axis) => test(at[axis]))) out.add(trial)
  for (const mark of all('[data-trial]')) mark.classList.toggle('out', out.has(mark.dataset.trial))
  byId('clear').hidden = !tests.some(Boolean)
  byId('shown').textContent = out.size ? `${crossings.length - out.size} of ${crossings.length} trials` : shownAtFirst
  if (out.has(chosen)) step(0)
}

const shownAtFirst = byId('shown').textContent
for (const button of choices) {
  button.disabled = false
  button.addEventListener('click', () => {
    button.ariaPressed = String(button.ariaPressed !== 'true')
    filter()
  })
}
for (const range of ranges) {
  const [from, to] = all('input', range)
  from.addEventListener('input', () => { to.value = Math.max(to.value, from.value); filter() })
  to.addEventListener('input', () => { from.value = Math.min(to.value, from.value); filter() })
}
byId('clear').addEventListener('click', () => {
  choices.forEach(button => { button.ariaPressed = 'false' })
  for (const range of ranges) all('input', range).forEach((input, end) => { input.value = end })
  filter()
  byId('shown').scrollIntoView({ block: 'nearest' })
})

// The table

const table = document.querySelector('.all'), body = table.tBodies[0]

/** By number where both are numbers; what is missing comes last whatever the order. */
function compare(a, b, sign) {
  if (a === b) return 0
  const missing = text => text === '' || text === 'None'
  if (missing(a) || missing(b)) return missing(a) - missing(b)
  return sign * (a - b || a.localeCompare(b, 'en', { numeric: true }))
}

all('thead th', table).forEach((title, column) => {
  const button = document.createElement('button')
  button.append(...title.childNodes)
  title.append(button)
  button.addEventListener('click', () => {
    const up = title.ariaSort !== 'ascending'
    all('[aria-sort]', table).forEach(other => other.removeAttribute('aria-sort'))
    title.ariaSort = up ? 'ascending' : 'descending'
    const key = row => row.cells[column].dataset.sort
    body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b), up ? 1 : -1)))
  })
})

all('.scripted').forEach(part => { part.hidden = false })
document.body.dataset.ready = 'yes'
