/** Version of the package, and of the protocol it speaks. */
export const VERSION = '0.1.0';
export const PROTOCOL_VERSION: [number, number] = [1, 0];
export const CLIENT_NAME = `taskerd-typescript/${VERSION}`;
