/** Owns an authority that openssl keeps in a directory, which signs requests: another program's view of ours. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'

export interface Signed {
  readonly certificate: string
  readonly ca: string
}

/** Signs a request (PEM); the authority is made if the directory has none. */
export function signRequest(directory: string, csr: string, days = 10): Signed {
  mkdirSync(directory, { recursive: true })
  const [key, ca, request] = ['ca.key', 'ca.pem', 'request.pem'].map((name) =>
    path.join(directory, name),
  ) as [string, string, string]
  if (!existsSync(ca)) {
    const algorithm = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
    openssl('req', '-x509', ...algorithm, '-subj', '/CN=Authority', '-keyout', key, '-out', ca)
  }
  writeFileSync(request, csr)
  const signing = ['-req', '-in', request, '-CA', ca, '-CAkey', key, '-days', String(days)]
  return { certificate: openssl('x509', ...signing), ca: readFileSync(ca, 'utf8') }
}

function openssl(...args: readonly string[]): string {
  return execFileSync('openssl', args, { encoding: 'utf8', stdio: 'pipe' })
}
