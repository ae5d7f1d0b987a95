/** `--reference` and `--label`: what a client notes on the session that its command makes or changes. */
import { LabelKey, Labels, Reference, type Tags } from '../../messages/labels.ts'
import { InvalidValue } from './usage-error.ts'
import type { OptionDescription } from './verb-description.ts'

export interface TagOptions {
  readonly reference?: string
  readonly label?: readonly (readonly [key: string, value: string])[]
}

export const tagOptions: readonly OptionDescription[] = [
  {
    flags: '--reference <TEXT>',
    description:
      'Your own name for this, such as the number of a job; the session, its events and lists carry it.',
    parse: parseReference,
  },
  {
    flags: '--label <KEY=VALUE>',
    description:
      'A label of the session, which its events and lists carry. An empty value removes the label.',
    repeatable: true,
    parse: parseLabel,
  },
]

/** The part of the command's body that these options are. */
export function tagsOf({ reference, label = [] }: TagOptions): Tags {
  return {
    ...(reference !== undefined && { reference }),
    ...(label.length > 0 && { labels: Object.fromEntries(label) }),
  }
}

export function parseReference(text: string): string {
  if (!Reference.safeParse(text).success)
    throw new InvalidValue('1 to 128 characters, without control characters')
  return text
}

export function parseLabel(text: string): readonly [string, string] {
  const equals = text.indexOf('=')
  const [key, value] = [text.slice(0, Math.max(0, equals)), text.slice(equals + 1)]
  if (!LabelKey.safeParse(key).success || !Labels.safeParse({ [key]: value }).success) {
    throw new InvalidValue(
      'like team=billing: a key of letters, digits, _, -, . and /, at most 63, and a value of at most 255 characters',
    )
  }
  return [key, value]
}
