/**
 * Owns the chart of the figures: the ratio of each to its alternative, one bar each on a logarithmic scale. Plain SVG that
 * follows the reader's light or dark colours.
 */
import { type Figure, formatNumber, formatValue, isMet, median, ratio } from './figure.ts'
import { machineLine } from './machine.ts'
import type { Outcome } from './report.ts'

const WIDTH = 1000
/** Where names end, where bars are, where numbers begin. */
const X = { names: 372, left: 384, right: 740, numbers: 752 }
const ROW = 24
const TOP = 58

interface Row {
  readonly figure: Figure
  readonly times: number
}

/** Figures without an alternative are left out. */
export function chart(outcome: Outcome): string {
  const rows = outcome.figures.flatMap((figure): Row[] => {
    const times = ratio(figure)
    return times === undefined || !Number.isFinite(times) ? [] : [{ figure, times }]
  })
  const x = scale(rows.flatMap(({ figure: { target }, times }) => [times, target?.limit ?? 1, 0.5, 2]))
  const parts: string[] = []
  let y = TOP
  for (const [what, group] of Map.groupBy(rows, ({ figure }) => figure.instead?.what ?? '')) {
    parts.push(
      `<text class="group" x="${X.names}" y="${y + 13}" text-anchor="end">beside ${escaped(what)}</text>`,
    )
    y += ROW
    for (const row of group) {
      parts.push(bar(row, y, x))
      y += ROW
    }
    y += ROW / 4
  }
  const one = x(1).toFixed(1)
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y + 46}" role="img" aria-label="Howdah beside the alternatives">
<style>
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .quiet { fill: #656d76; font-size: 12px }
  .group { font-weight: 600 }
  .title { font-size: 16px; font-weight: 600 }
  .met { fill: #2da44e } .missed { fill: #d4813a } .plain { fill: #6e8fb5 }
  .line { stroke: #656d76 } .target { stroke: #24292f; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .quiet { fill: #8d96a0 }
    .met { fill: #3fb950 } .missed { fill: #db8b3f } .plain { fill: #7d9cc0 }
    .line { stroke: #8d96a0 } .target { stroke: #e6edf3 }
  }
</style>
<text class="title" x="8" y="18">Howdah: how many times as good as the alternative</text>
<text class="quiet" x="8" y="38">Logarithmic; 1 is as good. Green reaches its target (a short line where it is a ratio), orange does not, blue has none.</text>
<line class="line" x1="${one}" x2="${one}" y1="${TOP}" y2="${y}"/>
<text class="quiet" x="${one}" y="${y + 14}" text-anchor="middle">1 ×</text>
${parts.join('\n')}
<text class="quiet" x="8" y="${y + 38}">${escaped(`${outcome.takenAt.slice(0, 10)}; ${machineLine(outcome.machine)}`)}</text>
</svg>
`
}

/** A logarithmic scale over all of these. */
function scale(values: readonly number[]): (times: number) => number {
  const [least, most] = [Math.log(Math.min(...values)), Math.log(Math.max(...values))]
  return (times) => X.left + ((Math.log(times) - least) / (most - least)) * (X.right - X.left)
}

function bar({ figure, times }: Row, y: number, x: (times: number) => number): string {
  const { name, unit, howdah, instead, target } = figure
  const met = isMet(figure)
  const kind = met === undefined ? 'plain' : met ? 'met' : 'missed'
  const [from, to] = [Math.min(x(1), x(times)), Math.max(x(1), x(times))]
  const values = [howdah, instead?.values ?? []].map((taken) =>
    unit === 'transactions' ? formatNumber(median(taken)) : formatValue(median(taken), unit),
  )
  const at = target?.of === 'ratio' ? x(target.limit).toFixed(1) : undefined
  return [
    `<text x="${X.names}" y="${y + 13}" text-anchor="end">${escaped(name)}</text>`,
    `<rect class="${kind}" x="${from.toFixed(1)}" y="${y + 2}" width="${Math.max(1, to - from).toFixed(1)}" height="12" rx="2"/>`,
    ...(at === undefined ? [] : [`<line class="target" x1="${at}" x2="${at}" y1="${y}" y2="${y + 16}"/>`]),
    `<text class="quiet" x="${X.numbers}" y="${y + 13}">${times.toFixed(2)} ×: ${escaped(values.join(' beside '))}</text>`,
  ].join('\n')
}

const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
