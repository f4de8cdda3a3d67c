/** A file dropped anywhere begins a machine from it, and on the images' page joins the library. Only the desktop window knows the path of what is dropped. */
import { onScopeDispose } from 'vue';
import { useRouter } from 'vue-router';
import { platform } from '@/api/platform';

export function useDropToCreate(): void {
  const router = useRouter();
  onScopeDispose(
    platform.onFilesDropped(([path]) => {
      if (path === undefined) return;
      const onImages = ['images', 'catalogue'].includes(String(router.currentRoute.value.name));
      void router.push({ name: onImages ? 'images' : 'create', query: { file: path } });
    }),
  );
}
