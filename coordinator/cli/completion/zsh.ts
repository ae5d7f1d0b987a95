/** The completion of zsh: see zshcompsys(1), `_arguments` and `_describe`. */
import { type Completed, type CompletedOption, type CompletedVerb, isFirstWord } from './completed-words.ts'

export function zshCompletion(verbs: readonly CompletedVerb[]): string {
  const described = verbs
    .filter(({ name }) => isFirstWord(name))
    .map(({ name, summary }) => `    ${quoted(`${name}:${summary}`)}`)
  const twoWords = verbs.flatMap(({ name }) => (isFirstWord(name) ? [] : [quoted(name)]))
  const cases = verbs.map(({ name, argument, options }) => {
    const specifications = [
      ...options.map(specification),
      ...(argument === undefined ? [] : [`*:${argument.name}:${action(argument.completed)}`]),
    ]
    return `    ${quoted(name)})\n      _arguments ${specifications.map((each) => `\\\n        ${quoted(each)}`).join(' ')}\n      ;;`
  })
  return `#compdef howdah
# zsh completion for howdah. Made by "howdah completion zsh".
_howdah() {
  local -a verbs
  verbs=(
${described.join('\n')}
  )
  if (( CURRENT == 2 )); then
    _describe -t verbs verb verbs
    return
  fi
  local verb=$words[2]
  shift words
  (( CURRENT-- ))
  if (( CURRENT > 2 )); then
    case "$verb $words[2]" in
      ${twoWords.join(' | ')})
        verb="$verb $words[2]"
        shift words
        (( CURRENT-- ))
        ;;
    esac
  fi
  case $verb in
${cases.join('\n')}
  esac
}
if [ "$funcstack[1]" = _howdah ]; then _howdah "$@"; else compdef _howdah howdah; fi
`
}

function specification({ name, description, value, repeatable }: CompletedOption): string {
  const text = description.replace(/[[\]\\:]/g, '\\$&')
  const after = value === undefined ? '' : `:${value.name.replaceAll(':', '\\:')}:${action(value.completed)}`
  return `${repeatable ? '*' : ''}${name}[${text}]${after}`
}

function action(completed: Completed): string {
  switch (completed) {
    case 'nothing':
      return ' '
    case 'files':
      return '_files'
    case 'directories':
      return '_files -/'
    default:
      return `(${completed.join(' ')})`
  }
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
