/** A machine's screen on a canvas: its connection, its size, and what a person does on it. */
import { useDocumentVisibility } from '@vueuse/core';
import { onScopeDispose, shallowRef, watch, type Ref } from 'vue';
import type { InputEvent, ViewerMessage, VmId } from '@/api/client';
import { ConsoleConnection } from '../connection';
import { Painter, type ScreenSize } from './painter';
import { WireReader } from './wire';

export function useScreen(id: VmId, canvas: Readonly<Ref<HTMLCanvasElement | null>>) {
  const size = shallowRef<ScreenSize>();
  let painter: Painter | undefined;
  let reader = new WireReader();
  const visibility = useDocumentVisibility();
  /** Pictures drawn while nobody could see them: unless they are told as drawn, no more come, and nobody works for nothing. */
  let unseen = 0;

  function say(message: ViewerMessage): void {
    connection.send(JSON.stringify(message));
  }

  function drawn(): void {
    if (visibility.value === 'hidden') unseen += 1;
    else say({ type: 'drawn' });
  }

  watch(visibility, (now) => {
    if (now === 'hidden') return;
    for (; unseen > 0; unseen -= 1) say({ type: 'drawn' });
  });

  const connection = new ConsoleConnection(id, 'screen', {
    opened() {
      reader = new WireReader();
      unseen = 0;
    },
    message(data) {
      if (!canvas.value) return;
      painter ??= new Painter(canvas.value, (now) => (size.value = now));
      try {
        if (reader.read(data, painter)) drawn();
      } catch (cause) {
        connection.fail(cause);
      }
    },
  });
  onScopeDispose(() => {
    connection.close();
  });

  return {
    connection,
    size,
    input: (events: InputEvent[]) => {
      if (events.length > 0) say({ type: 'input', events });
    },
    /** The screen as it is now; undefined before there was one. */
    png: () => painter?.png(),
  };
}
