/** The completion of bash: a function for `complete -F`, see bash(1), "Programmable Completion". */
import { type Completed, type CompletedVerb, isFirstWord } from './completed-words.ts'

export function bashCompletion(verbs: readonly CompletedVerb[]): string {
  const names = verbs.map(({ name }) => name).filter(isFirstWord)
  const values = verbs.flatMap(({ name, options }) =>
    options.flatMap((option) =>
      option.value === undefined ? [] : [`    '${name} ${option.name}') ${reply(option.value.completed)} ;;`],
    ),
  )
  const words = verbs.map(({ name, argument, options }) => {
    const flags = options.map((option) => option.name)
    const more = Array.isArray(argument?.completed) ? (argument.completed as readonly string[]) : []
    return `    '${name}') ${reply([...more, ...flags])} ;;`
  })
  const twoWords = verbs.flatMap(({ name }) => (isFirstWord(name) ? [] : [`'${name}'`]))
  return `# bash completion for howdah. Made by "howdah completion bash".
_howdah() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]} verb=\${COMP_WORDS[1]}
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    ${reply([...names, '--help', '--version'])}
    return
  fi
  if [ "$COMP_CWORD" -gt 2 ]; then
    case "$verb \${COMP_WORDS[2]}" in
      ${twoWords.join(' | ')}) verb="$verb \${COMP_WORDS[2]}" ;;
    esac
  fi
  case "$verb $previous" in
${values.join('\n')}
    *)
      case $verb in
${words.map((line) => `    ${line}`).join('\n')}
      esac
      ;;
  esac
}
complete -F _howdah howdah
`
}

/** The command that completes the current word; no value of a candidate has a space or a quote. */
function reply(completed: Completed): string {
  switch (completed) {
    case 'nothing':
      return ':'
    case 'files':
      return `compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$current")`
    case 'directories':
      return `compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$current")`
    default:
      return `mapfile -t COMPREPLY < <(compgen -W '${completed.join(' ')}' -- "$current")`
  }
}
