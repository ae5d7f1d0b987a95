/** File names as the kernel has them: the same bytes and strings as in the tree of a backup. */
export { decodeName, encodeName, nameLength } from '../../../../dataplane/protocol/file-names.ts'
