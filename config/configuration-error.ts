/** The error of every part of the configuration. */

/** The configuration is wrong; the message names the file and every wrong key. */
export class ConfigurationError extends Error {
  readonly code = 'configuration'
  override readonly name = 'ConfigurationError'
}
