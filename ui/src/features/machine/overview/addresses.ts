/** Where a guest can be reached from this computer, and the text somebody would want to copy for each way. */
import type { MachineSpec, PortForward } from '@/api/client';
import { forwardsOf } from '@/features/forwards';

export interface Way {
  readonly forward: PortForward;
  /** What to copy: a command, an address in a browser, or host and port. */
  readonly text: string;
  readonly kind: 'ssh' | 'web' | 'plain';
}

/** Guest ports that are answered by a web server. */
const WEB = new Map([
  [80, 'http'],
  [443, 'https'],
  [3000, 'http'],
  [8000, 'http'],
  [8080, 'http'],
  [8443, 'https'],
]);

export function wayOf(forward: PortForward): Way {
  // Bound to every address it is reached from here by loopback.
  const host = forward.hostAddress === '0.0.0.0' ? '127.0.0.1' : forward.hostAddress;
  const place = `${host}:${String(forward.hostPort)}`;
  if (forward.protocol === 'tcp') {
    if (forward.guestPort === 22)
      return { forward, kind: 'ssh', text: `ssh -p ${String(forward.hostPort)} ${host}` };
    const scheme = WEB.get(forward.guestPort);
    if (scheme !== undefined) return { forward, kind: 'web', text: `${scheme}://${place}/` };
  }
  return { forward, kind: 'plain', text: place };
}

export function waysOf(spec: MachineSpec): Way[] {
  return spec.nics.flatMap((nic) => forwardsOf(nic).map(wayOf));
}
