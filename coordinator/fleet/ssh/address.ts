/** How a host is named on the command line: `user@host`, `host:port`, `user@[2001:db8::7]:2222`, `ssh://user@host:port`. Pure. */

export interface SshAddress {
  readonly host: string
  readonly user?: string
  readonly port?: number
}

/** Undefined: it is none. */
export function parseSshAddress(text: string): SshAddress | undefined {
  const plain = text.startsWith('ssh://') ? text.slice('ssh://'.length).replace(/\/$/, '') : text
  const at = plain.lastIndexOf('@')
  const user = at < 0 ? undefined : plain.slice(0, at)
  const [, bracketed, name, digits] =
    /^(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([\w.-]+))(?::(\d{1,5}))?$/.exec(plain.slice(at + 1)) ?? []
  const host = bracketed ?? name
  const port = digits === undefined ? undefined : Number(digits)
  if (host === undefined || host.startsWith('-') || port === 0 || (port ?? 1) > 65535) return undefined
  // What a shell or another program could take for something else is no name of a user.
  if (user !== undefined && !/^[\w.][\w.@+\\-]*\$?$/.test(user)) return undefined
  return { host, ...(user !== undefined && { user }), ...(port !== undefined && { port }) }
}

export function formatSshAddress({ host, user, port }: SshAddress): string {
  const shown = host.includes(':') ? `[${host}]` : host
  return `${user === undefined ? '' : `${user}@`}${shown}${port === undefined || port === 22 ? '' : `:${port}`}`
}
