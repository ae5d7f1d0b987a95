/** `howdah man`: the manual pages as files for man(1), or one of them. */
import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { version } from '../../../config/version.ts'
import { HowdahError } from '../../../messages/errors.ts'
import { printJson } from '../context.ts'
import { manualFile, manualPage, overviewPage } from '../manual-page.ts'
import { clientExitStatus, jsonOption } from '../options.ts'
import { UsageError } from '../usage-error.ts'
import { type Call, defineVerb } from '../verb.ts'

interface Options {
  readonly json?: true
  readonly directory?: string
}

export const man = defineVerb<Options>({
  name: 'man',
  summary: 'print a manual page for man(1), or write all of them',
  description: [
    'Prints the manual page of VERB in the language of man(7); without VERB, the page howdah(1). With --directory it ' +
      'writes the pages of all verbs and roles as files: howdah.1, howdah-publish.1 and so on.',
  ],
  arguments: [
    { name: 'VERB', required: false, description: 'A verb or a role of howdah.' },
    { name: 'ACTION', required: false, description: 'Of a verb with actions: one of them.' },
  ],
  options: [
    {
      flags: '--directory <DIR>',
      description: 'Write all pages there instead; created if it does not exist.',
      parse: (text) => path.resolve(text),
    },
    jsonOption('Print {"page": …}, or with --directory {"files": […]}, as one JSON document.'),
  ],
  exitStatus: clientExitStatus.slice(0, 3),
  environment: [],
  files: [],
  examples: [
    ['howdah man publish | man -l -', 'Read a page.'],
    ['howdah man --directory /usr/local/share/man/man1', 'Install all of them: "man howdah-publish".'],
  ],
  run: runMan,
})

async function runMan({ context, options, argument, further }: Call<Options>): Promise<number> {
  const json = options.json === true
  const { directory } = options
  const pages = await context.pages()
  const printed = (name: string): string | undefined => {
    const page = pages.find((one) => one.name === name)
    return name === '' ? overviewPage(pages, version()) : page && manualPage(page, version())
  }
  if (directory === undefined) {
    const name = [argument, ...further].join(' ')
    const page = printed(name)
    if (page === undefined) throw new UsageError(`VERB: there is no verb "${name}"`, man)
    if (json) printJson(context, { page })
    else context.stdout.write(page)
    return 0
  }
  if (argument !== '') throw new UsageError('either VERB, or --directory DIR for all of them', man)
  const files = ['', ...pages.map(({ name }) => name)].map((name) => {
    const file = path.join(directory, manualFile(name))
    return { file, text: printed(name) ?? '' }
  })
  try {
    mkdirSync(directory, { recursive: true })
    for (const { file, text } of files) writeFileSync(file, text)
  } catch (cause) {
    throw new HowdahError('operation_failed', `the pages cannot be written: ${(cause as Error).message}`, {
      cause,
    })
  }
  if (json) printJson(context, { files: files.map(({ file }) => file) })
  else for (const { file } of files) context.stdout.line(file)
  return 0
}
