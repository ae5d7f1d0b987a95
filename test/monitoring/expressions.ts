/** What an expression of PromQL uses, as far as can be told without Prometheus: metrics, their labels, and what is done to them. */

export interface Use {
  readonly metric: string
  /** Labels of its matchers. */
  readonly labels: readonly string[]
  /** The function that it is the argument of, if it is a range: `rate`, `increase`, … */
  readonly ranged: string | undefined
}

const SELECTOR = /(?:\b(\w+)\s*\(\s*)?\b((?:howdah|process|nodejs)_\w+|up)\b\s*(\{[^}]*\})?\s*(\[[^\]]*\])?/g

export function usesOf(expression: string): Use[] {
  return Array.from(expression.matchAll(SELECTOR), ([, call, metric = '', matchers = '', range]) => ({
    metric,
    labels: Array.from(matchers.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g), ([, label = '']) => label),
    ranged: range === undefined ? undefined : call,
  }))
}

/** The labels by which an expression groups. */
export function groupedBy(expression: string): string[] {
  return Array.from(expression.matchAll(/\b(?:by|on)\s*\(([^)]*)\)/g), ([, labels = '']) => labels.split(','))
    .flat()
    .map((label) => label.trim())
    .filter((label) => label !== '')
}
