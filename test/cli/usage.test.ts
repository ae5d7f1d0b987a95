/** Wrong usage, help and version. */
import { expect } from 'chai'
import { describeKeys } from '../../config/describe.ts'
import { roleHelp } from '../../config/role-help.ts'
import { coordinatorSchema, mountAgentSchema, targetAgentSchema } from '../../config/schema.ts'
import { optionForm } from '../../coordinator/cli/verb-description.ts'
import { loadVerb, VERB_NAMES } from '../../coordinator/cli/verbs.ts'
import { run } from './run.ts'

const PUBLISH = ['publish', '--repository', 'prod', '--instance', 'main', '--target', 'local']

describe('wrong usage', () => {
  const cases: [string, string[], string[]][] = [
    ['no verb', [], ['USAGE']],
    ['an unknown verb', ['publsh'], ['no verb "publsh"', 'Did you mean publish?']],
    ['an option before the verb', ['--json', 'sessions'], ['the verb comes first']],
    ['an unknown option', ['publish', '--repositry', 'x'], ["'--repositry'", 'Did you mean --repository?']],
    ['missing options', ['publish', '--repository', 'x'], ['missing --instance I, --target T']],
    ['an option without its value', ['publish', '--repository'], ["'--repository R' argument missing"]],
    ['an invalid port', [...PUBLISH, '--port', '70000'], ['--port N', '"70000"', '1 to 65535']],
    ['an unknown recovery target', [...PUBLISH, '--recover-to', 'tim=3'], ['--recover-to WHAT', 'time=…']],
    ['a recovery target without value', [...PUBLISH, '--recover-to', 'lsn'], ['--recover-to WHAT']],
    [
      'a recovery target with a value that it does not take',
      [...PUBLISH, '--recover-to', 'latest=1'],
      ['--recover-to WHAT'],
    ],
    ['an invalid name', ['publish', '--repository', 'a b'], ['--repository R: "a b" is wrong']],
    ['an option given twice', [...PUBLISH, '--target', 'x'], ['--target T is given twice']],
    ['a missing session', ['show'], ["'SESSION'", 'howdah show SESSION']],
    ['no action', ['agent'], ['ACTION is missing', 'request, accept']],
    ['an unknown action', ['agent', 'acept'], ['there is no "howdah agent acept"', 'accept']],
    [
      'an action without its options',
      ['agent', 'request'],
      ['missing --kind KIND', 'howdah agent request --'],
    ],
    ['too many arguments', ['sessions', 'x'], ['too many arguments']],
    ['a repository in a wrong form', ['up', '--repository', 'x'], ['NAME=FORMAT:PATH', 'prod=pgbackrest:']],
    ['an unknown format', ['up', '--repository', 'x=tar:/x'], ['pgbackrest, barman, basebackup']],
    [
      'several repositories that do not exist',
      ['up', '--repository', 'a=barman:/nowhere/a', '--repository', 'b=barman:/nowhere/b'],
      ['/nowhere/a does not exist', '/nowhere/b does not exist'],
    ],
    [
      'a repository that is not a directory',
      ['up', '--repository', 'a=basebackup:/etc/passwd'],
      ['/etc/passwd is not a directory'],
    ],
    [
      'a name given twice',
      ['up', '--repository', 'a=barman:/tmp', '--repository', 'a=barman:/etc'],
      ['"a" is given twice'],
    ],
    [
      'a passphrase file for an unknown repository',
      ['up', '--repository', 'a=barman:/tmp', '--passphrase-file', 'b=/etc/hostname'],
      ['no --repository is called "b"', 'there are a'],
    ],
  ]
  for (const [name, args, parts] of cases) {
    it(`${name} exits with 2 and shows the correct form`, async () => {
      const { status, stdout, stderr } = run(args)
      expect(await status).to.equal(2)
      for (const part of parts) expect(stderr()).to.include(part)
      if (!args.includes('--json')) expect(stdout()).to.equal('')
    })
  }

  it('never repeats a broker URL, which may contain a password', async () => {
    const { status, stdout, stderr } = run(['sessions', '--json', '--broker', 'http://u:secret@host'])
    expect(await status).to.equal(2)
    expect(stderr()).to.include('amqp://user:password@host:5672/vhost')
    expect(stdout() + stderr()).not.to.include('secret')
  })

  it('is one JSON document with --json', async () => {
    const { status, stdout } = run(['publish', '--json'])
    expect(await status).to.equal(2)
    expect(JSON.parse(stdout()).error.code).to.equal('usage')
  })
})

describe('help', () => {
  for (const name of VERB_NAMES) {
    it(`of ${name} lists every option, and fits 80 columns`, async () => {
      const verb = await loadVerb(name)
      const { status, stdout } = run([name, '--help'])
      expect(await status).to.equal(0)
      expect(verb?.name).to.equal(name)
      for (const option of verb?.options ?? []) expect(stdout()).to.include(`    ${optionForm(option)}\n`)
      const prose = stdout().slice(0, stdout().indexOf('\nEXAMPLES\n'))
      expect(prose.split('\n').filter((line) => line.length > 80)).to.deep.equal([])
    })
  }

  it('of each action of a verb lists every option, and fits 80 columns; that of the verb lists the actions', async () => {
    const agent = await loadVerb('agent')
    if (agent === undefined || !('actions' in agent)) throw new Error('"howdah agent" has no actions')
    const list = run(['agent', '--help'])
    expect(await list.status).to.equal(0)
    for (const [action, load] of Object.entries(agent.actions)) {
      const { name, options, summary } = await load()
      expect(name).to.equal(`agent ${action}`)
      expect(list.stdout()).to.include(`    howdah ${name}\n        ${summary}`)
      const pages = [run(['agent', action, '--help']), run(['help', 'agent', action])]
      expect(await Promise.all(pages.map(({ status }) => status))).to.deep.equal([0, 0])
      const [shown = '', same] = pages.map(({ stdout }) => stdout())
      expect(same).to.equal(shown)
      for (const option of options) expect(shown).to.include(`    ${optionForm(option)}\n`)
      const prose = shown.slice(0, shown.indexOf('\nEXAMPLES\n'))
      expect(prose.split('\n').filter((line) => line.length > 80)).to.deep.equal([])
    }
  })

  const roles = {
    coordinator: coordinatorSchema,
    'mount-agent': mountAgentSchema,
    'target-agent': targetAgentSchema,
  }
  for (const [role, schema] of Object.entries(roles)) {
    it(`of ${role} lists every configuration key, and fits 80 columns`, () => {
      const keys = describeKeys<object>(schema)
      const lines = roleHelp(role, 'summary', keys).split('\n')
      for (const { key } of keys) expect(lines.some((line) => line.startsWith(`  ${key}`))).to.equal(true)
      const wide = lines.filter((line) => line.length > 80 && !/^ +(default: |\S+$)/.test(line))
      expect(wide).to.deep.equal([])
    })
  }

  it('is the same by "help VERB" and "VERB --help"', async () => {
    const pages = [run(['help', 'publish']), run(['publish', '--repository', 'x', '--help'])]
    expect(await Promise.all(pages.map(({ status }) => status))).to.deep.equal([0, 0])
    expect(pages[0]?.stdout()).to.equal(pages[1]?.stdout())
  })

  it('without a verb lists every verb and every role', async () => {
    const { status, stdout } = run(['--help'])
    expect(await status).to.equal(0)
    for (const name of VERB_NAMES) expect(stdout()).to.match(new RegExp(`^ +${name} `, 'm'))
    for (const role of ['coordinator', 'mount-agent', 'target-agent'])
      expect(stdout()).to.include(`    ${role} `)
  })

  it('of an unknown verb is wrong usage', async () => {
    const { status, stderr } = run(['help', 'session'])
    expect(await status).to.equal(2)
    expect(stderr()).to.include('Did you mean sessions?')
  })
})

describe('--version', () => {
  it('prints the version, as JSON too', async () => {
    const plain = run(['--version'])
    const json = run(['--version', '--json'])
    expect(await plain.status).to.equal(0)
    expect(await json.status).to.equal(0)
    expect(plain.stdout()).to.equal('howdah 1.2.3\n')
    expect(JSON.parse(json.stdout())).to.deep.equal({ version: '1.2.3' })
  })
})
