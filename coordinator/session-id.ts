/** Session ids: short enough to type, and beginning with the name of the instance. */

/** Without vowels (no words by accident) and without what looks alike. */
const ALPHABET = '23456789bcdfghjkmnpqrstvwxz'
const RANDOM_CHARACTERS = 6

/** `shop-k3x9qf` for the instance `Shop`. `randomInt(max)` gives a random integer below max. */
export function sessionId(instance: string, randomInt: (max: number) => number): string {
  const prefix = instance
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+/, '')
    .slice(0, 20)
    .replace(/-+$/, '')
  const random = Array.from({ length: RANDOM_CHARACTERS }, () => ALPHABET[randomInt(ALPHABET.length)]).join(
    '',
  )
  return `${prefix || 's'}-${random}`
}
