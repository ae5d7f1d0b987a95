/** Conversion of file names between bytes and strings, the same as in the tree of a backup. */
export { decodeName, encodeName, nameLength } from '../../../../dataplane/protocol/file-names.ts'
