/** Commands, typed by the contract. */
import type { Commands } from '@/api/generated/commands';
import { platform } from '@/api/platform';

export type CommandName = keyof Commands;
export type Request<N extends CommandName> = Commands[N]['request'];
export type Reply<N extends CommandName> = Commands[N]['reply'];

/** Commands whose request has no fields are called without one. */
type Args<N extends CommandName> =
  Record<string, never> extends Request<N> ? [request?: Request<N>] : [request: Request<N>];

/** Sends a command to the engine. Fails with an `ApiError` alone. */
export async function call<N extends CommandName>(name: N, ...[request]: Args<N>): Promise<Reply<N>> {
  return (await platform.transport.send(name, request ?? {})) as Reply<N>;
}
