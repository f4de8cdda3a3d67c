/** A file dropped anywhere begins a machine from it. Only the desktop window knows the path of what is dropped. */
import { onScopeDispose } from 'vue';
import { useRouter } from 'vue-router';
import { platform } from '@/api/platform';

export function useDropToCreate(): void {
  const router = useRouter();
  onScopeDispose(
    platform.onFilesDropped(([path]) => {
      if (path !== undefined) void router.push({ name: 'create', query: { file: path } });
    }),
  );
}
