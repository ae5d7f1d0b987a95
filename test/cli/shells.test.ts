/** Completions of shells and manual pages: made from what `--help` is made of, and taken by the programs they are for. */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'chai'
import { allPages } from '../../coordinator/cli/pages.ts'
import { optionForm, type VerbDescription } from '../../coordinator/cli/verb-description.ts'
import { run } from './run.ts'

const SHELLS = ['bash', 'zsh', 'fish'] as const
type Shell = (typeof SHELLS)[number]

describe('completion', function () {
  this.timeout(30_000)
  let directory: string
  let pages: VerbDescription[]
  const scripts = {} as Record<Shell, string>

  before(async () => {
    directory = mkdtempSync(path.join(tmpdir(), 'howdah-shells-'))
    mkdirSync(path.join(directory, 'some-directory'))
    writeFileSync(path.join(directory, 'some-file.conf'), '')
    pages = await allPages()
    for (const shell of SHELLS) {
      const { status, stdout } = run(['completion', shell])
      expect(await status).to.equal(0)
      scripts[shell] = path.join(directory, `howdah.${shell}`)
      writeFileSync(scripts[shell], stdout())
    }
  })
  after(() => rmSync(directory, { recursive: true }))

  /** Types keys in an interactive shell, in which howdah prints its arguments. @returns what it printed */
  async function typed(shell: 'bash' | 'zsh', start: string, keys: string): Promise<string> {
    const child = spawn('script', ['-qec', start, '/dev/null'], {
      cwd: directory,
      env: { PATH: process.env.PATH, TERM: 'dumb', HOME: directory, LANG: 'C.UTF-8' },
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    let shown = ''
    const until = async (part: string): Promise<void> => {
      const deadline = Date.now() + 10_000
      while (!shown.includes(part)) {
        if (Date.now() > deadline) throw new Error(`${shell} did not show ${part}: ${shown}`)
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
    }
    child.stdout.setEncoding('utf8').on('data', (part: string) => {
      shown += part
    })
    const prepare = shell === 'zsh' ? 'autoload -U compinit; compinit -D -u; ' : ''
    child.stdin.write(
      `${prepare}source ${scripts[shell]}; howdah() { printf '<%s>' "$@"; echo .; }; echo rea''dy\n`,
    )
    await until('ready\r\n')
    child.stdin.write(`${keys}\n`)
    await until('>.')
    child.stdin.end('exit\n')
    await once(child, 'close')
    return /(?:<[^>]*>)+(?=\.)/.exec(shown)?.[0] ?? shown
  }

  const offeredByFish = (line: string): string[] =>
    execFileSync(
      'fish',
      ['--no-config', '-c', `source ${scripts.fish}; complete -C ${JSON.stringify(line)}`],
      {
        cwd: directory,
        env: { PATH: process.env.PATH, HOME: directory },
        encoding: 'utf8',
      },
    )
      .trim()
      .split('\n')
      .map((text) => text.split('\t')[0] ?? '')

  it('is a script that each shell can read', () => {
    for (const shell of SHELLS) {
      const { status, stderr } = spawnSync(shell, ['-n', scripts[shell]], { encoding: 'utf8' })
      expect([shell, status, stderr]).to.deep.equal([shell, 0, ''])
    }
  })

  it('of bash completes verbs, options, their values and files, as they are typed', async () => {
    const start = 'bash --norc --noprofile -i'
    expect(await typed('bash', start, 'howdah publ\t--after-rec\tpau\t')).to.equal(
      '<publish><--after-recovery><pause>',
    )
    expect(await typed('bash', start, 'howdah publish --hba-file some-f\t')).to.equal(
      '<publish><--hba-file><some-file.conf>',
    )
    expect(await typed('bash', start, 'howdah up --state some-d\t --unpub\t')).to.equal(
      '<up><--state><some-directory/><--unpublish-on-exit>',
    )
  })

  it('of bash offers every verb, and every option of each', () => {
    const offered = (...words: string[]): string[] => {
      const program = `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _howdah; printf '%s\\n' "\${COMPREPLY[@]}"`
      const args = ['--norc', '-c', program, 'bash', scripts.bash, 'howdah', ...words]
      return execFileSync('bash', args, { encoding: 'utf8' }).trim().split('\n')
    }
    const verbs = pages.map(({ name }) => name).filter((name) => !name.includes(' '))
    expect(offered('')).to.have.members([...verbs, '--help', '--version'])
    for (const { name, options } of pages) {
      const flags = options.map((option) => optionForm(option).split(' ')[0])
      expect(offered(...name.split(' '), '-'), name).to.have.members([...flags, '--help'])
    }
    expect(offered('help', 'pub')).to.deep.equal(['publish'])
    expect(offered('completion', 'z')).to.deep.equal(['zsh'])
  })

  it('of zsh completes verbs, options, their values and files, as they are typed', async () => {
    expect(await typed('zsh', 'zsh -f -i', 'howdah publ\t--after-rec\tpau\t')).to.equal(
      '<publish><--after-recovery><pause>',
    )
    expect(await typed('zsh', 'zsh -f -i', 'howdah publish --hba-file some-f\t')).to.equal(
      '<publish><--hba-file><some-file.conf>',
    )
  })

  it('completes the actions of a verb, and the options of each', async () => {
    for (const [shell, start] of [
      ['bash', 'bash --norc --noprofile -i'],
      ['zsh', 'zsh -f -i'],
    ] as const)
      expect(await typed(shell, start, 'howdah agent req\t--ki\ttar\t'), shell).to.equal(
        '<agent><request><--kind><target>',
      )
    expect(offeredByFish('howdah agent req')).to.deep.equal(['request'])
    expect(offeredByFish('howdah agent request --kin')).to.deep.equal(['--kind'])
    expect(offeredByFish('howdah agent request --kind t')).to.deep.equal(['target'])
  })

  it('of fish completes verbs, options, their values and files', () => {
    expect(offeredByFish('howdah publ')).to.deep.equal(['publish'])
    expect(offeredByFish('howdah publish --after-rec')).to.deep.equal(['--after-recovery'])
    expect(offeredByFish('howdah publish --after-recovery ')).to.have.members(['promote', 'pause'])
    expect(offeredByFish('howdah publish --hba-file some-f')).to.deep.equal(['some-file.conf'])
    expect(offeredByFish('howdah up --state some-')).to.deep.equal(['some-directory/'])
  })

  it('of another shell is wrong usage', async () => {
    const { status, stderr } = run(['completion', 'tcsh'])
    expect(await status).to.equal(2)
    expect(stderr()).to.include('bash, zsh, fish')
  })
})

describe('manual pages', function () {
  this.timeout(60_000)
  let directory: string

  before(async () => {
    directory = mkdtempSync(path.join(tmpdir(), 'howdah-man-'))
    const { status, stdout } = run(['man', '--directory', directory, '--json'])
    expect(await status).to.equal(0)
    expect(JSON.parse(stdout()).files).to.have.members(
      readdirSync(directory).map((name) => path.join(directory, name)),
    )
  })
  after(() => rmSync(directory, { recursive: true }))

  const file = (name: string) => `howdah-${name.replaceAll(' ', '-')}`
  const render = (page: string) =>
    spawnSync('groff', ['-man', '-Tutf8', '-ww', '-rLL=80n', '-rHY=0', '-P-c', path.join(directory, page)], {
      env: { PATH: process.env.PATH, LC_ALL: 'C' },
      encoding: 'utf8',
    })

  it('are there for howdah, for every verb and for every role, and groff has no warning for any', async () => {
    const names = (await allPages()).map(({ name }) => `${file(name)}.1`)
    expect(readdirSync(directory)).to.have.members(['howdah.1', ...names])
    for (const page of readdirSync(directory)) {
      const { status, stderr } = render(page)
      expect([page, status, stderr]).to.deep.equal([page, 0, ''])
    }
  })

  it('say what --help says', async () => {
    const words = (text: string) =>
      text
        // biome-ignore lint/suspicious/noControlCharactersInRegex: groff prints bold as a letter, a backspace and the letter.
        .replace(/.\x08/g, '')
        .replace(/[‐−]/g, '-')
        .split(/\s+/)
        .join(' ')
    for (const page of await allPages()) {
      const shown = words(render(`${file(page.name)}.1`).stdout)
      // groff breaks lines at hyphens, too.
      const has = (text: string) =>
        expect(shown.replace(/- /g, '-'), page.name).to.include(words(text).replace(/- /g, '-'))
      has(`${file(page.name)} - ${page.summary}`)
      for (const paragraph of page.description) has(paragraph)
      for (const option of page.options) has(`${optionForm(option)} ${option.description}`)
    }
  })

  it('are printed one by one, and of an unknown verb are wrong usage', async () => {
    const printed = run(['man', 'publish'])
    expect(await printed.status).to.equal(0)
    expect(printed.stdout()).to.match(/^\.TH HOWDAH\\-PUBLISH 1 /)
    expect(await run(['man']).status).to.equal(0)
    expect(await run(['man', 'publsh']).status).to.equal(2)
  })
})
