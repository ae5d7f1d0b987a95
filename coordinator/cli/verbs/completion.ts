/** `howdah completion`: prints the completion script of a shell. */
import { printJson } from '../context.ts'
import { clientExitStatus, jsonOption } from '../options.ts'
import { UsageError } from '../usage-error.ts'
import { type Call, defineVerb } from '../verb.ts'

const SHELLS = ['bash', 'zsh', 'fish'] as const

interface Options {
  readonly json?: true
}

export const completion = defineVerb<Options>({
  name: 'completion',
  summary: 'print a script that completes verbs and options in a shell',
  description: [
    'Prints the script for SHELL, which completes verbs, options, and the values of options as far as they are known: ' +
      'files, directories and fixed choices. It asks neither a broker nor howdah.',
  ],
  arguments: [{ name: 'SHELL', required: true, description: 'bash, zsh or fish.', choices: SHELLS }],
  options: [jsonOption('Print {"shell": …, "script": …} as one JSON document.')],
  exitStatus: clientExitStatus.slice(0, 3),
  environment: [],
  files: [],
  examples: [
    ['source <(howdah completion bash)', 'In this bash; in ~/.bashrc for every one.'],
    ['howdah completion bash > /etc/bash_completion.d/howdah', 'For every user of the machine.'],
    ['source <(howdah completion zsh)', 'In zsh, after compinit.'],
    ['howdah completion fish > ~/.config/fish/completions/howdah.fish', 'In fish.'],
  ],
  run: runCompletion,
})

async function runCompletion({ context, options, argument }: Call<Options>): Promise<number> {
  const shell = SHELLS.find((name) => name === argument)
  if (shell === undefined) throw new UsageError(`SHELL: it must be one of ${SHELLS.join(', ')}`, completion)
  const { completedVerbs } = await import('../completion/completed-words.ts')
  const verbs = completedVerbs(await context.pages())
  const make = {
    bash: async () => (await import('../completion/bash.ts')).bashCompletion(verbs),
    zsh: async () => (await import('../completion/zsh.ts')).zshCompletion(verbs),
    fish: async () => (await import('../completion/fish.ts')).fishCompletion(verbs),
  }
  const script = await make[shell]()
  if (options.json === true) printJson(context, { shell, script })
  else context.stdout.write(script)
  return 0
}
