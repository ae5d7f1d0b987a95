/** The documents say what is so: links lead somewhere, files that they name exist, every error code is explained. */
import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { expect } from 'chai'
import { ERROR_CODES } from '../messages/errors.ts'

const ROOT = join(import.meta.dirname, '..')
const DOCUMENTS = globSync(['*.md', 'docs/*.md'], { cwd: ROOT }).sort()
const textOf = (document: string) => readFileSync(join(ROOT, document), 'utf8')

describe('the documents', () => {
  it('are the pages that README names', () => {
    for (const page of [
      'operations',
      'fleet',
      'integration',
      'security',
      'performance',
      'monitoring',
      'troubleshooting',
    ])
      expect(DOCUMENTS).to.include(`docs/${page}.md`)
  })

  it('have links that lead somewhere', () => {
    const broken = DOCUMENTS.flatMap((document) =>
      Array.from(
        textOf(document).matchAll(/\]\((?!https?:|#)([^)#\s]+)[^)]*\)/g),
        ([, target = '']) => target,
      )
        .filter((target) => !existsSync(join(ROOT, dirname(document), target)))
        .map((target) => `${document}: ${target}`),
    )
    expect(broken).to.deep.equal([])
  })

  it('name source files that exist', () => {
    const sources = globSync('{agents,coordinator,messages,config,test}/**/*', { cwd: ROOT })
    const isThere = (path: string) =>
      sources.some((source) => source === normalize(path) || source.endsWith(`/${normalize(path)}`))
    const missing = DOCUMENTS.flatMap((document) =>
      Array.from(textOf(document).matchAll(/`([\w./-]*\/[\w./-]*?(?:\.ts|\/))`/g), ([, path = '']) => path)
        .filter(
          (path) =>
            /^[a-z]/.test(path) &&
            !path.includes('NAME') &&
            /\.ts$|^(agents|coordinator|messages|config|test)\//.test(path),
        )
        .map((path) => path.replace(/\/$/, ''))
        .filter((path) => !isThere(path))
        .map((path) => `${document}: ${path}`),
    )
    expect(missing).to.deep.equal([])
  })

  it('explain every error code', () => {
    const text = textOf('docs/troubleshooting.md')
    const rows = text
      .split('\n')
      .flatMap((line) => Array.from(line.split('|')[1]?.matchAll(/`([a-z_]+)`/g) ?? []))
    expect(rows.map(([, code]) => code)).to.include.members(Object.keys(ERROR_CODES))
  })
})
