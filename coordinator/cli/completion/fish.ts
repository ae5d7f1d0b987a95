/** The completion of fish: see complete(1) of fish. */
import { type Completed, type CompletedVerb, isFirstWord } from './completed-words.ts'

export function fishCompletion(verbs: readonly CompletedVerb[]): string {
  const lines = [
    '# fish completion for howdah. Made by "howdah completion fish".',
    'complete -c howdah -f',
    'complete -c howdah -n __fish_use_subcommand -l help -d "Show an overview"',
    'complete -c howdah -n __fish_use_subcommand -l version -d "Show the version"',
  ]
  for (const { name, summary, argument, options } of verbs) {
    if (isFirstWord(name))
      lines.push(`complete -c howdah -n __fish_use_subcommand -a ${name} -d ${quoted(summary)}`)
    const words = name.split(' ').map((word) => `__fish_seen_subcommand_from ${word}`)
    const seen = `complete -c howdah -n ${quoted(words.join('; and '))}`
    if (argument !== undefined && argument.completed !== 'nothing')
      lines.push(`${seen} ${choices(argument.completed)}`)
    for (const option of options) {
      const value = option.value === undefined ? '' : ` ${values(option.value.completed)}`
      lines.push(`${seen} -l ${option.name.slice(2)}${value} -d ${quoted(option.description)}`)
    }
  }
  return `${lines.join('\n')}\n`
}

/** `-x`: a value, and no files. */
function values(completed: Completed): string {
  return completed === 'nothing' ? '-x' : completed === 'files' ? '-r -F' : `-x ${choices(completed)}`
}

function choices(completed: Completed): string {
  switch (completed) {
    case 'nothing':
      return ''
    case 'files':
      return '-F'
    case 'directories':
      return `-a ${quoted('(__fish_complete_directories)')}`
    default:
      return `-a ${quoted(completed.join(' '))}`
  }
}

function quoted(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`
}
