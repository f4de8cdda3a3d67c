import { mount } from '@vue/test-utils';
import { describe, expect, it } from 'vitest';
import { effectScope } from 'vue';
import { createI18n } from 'vue-i18n';
import type { Backup } from '@/api/client';
import en from '@/locales/en';
import { lastOnes, machineNames, namesIn, shownBackups, sizeOf } from './backups';
import { folderName, folders, leaveFolder, plainPath, rememberFolder } from './folders';
import NewPassword from './NewPassword.vue';
import { folderRequest, givePassword, usePasswords } from './passwords';

function backup(id: string, day: number, ...names: string[]): Backup {
  return {
    id,
    taken: `2026-11-${String(day).padStart(2, '0')}T02:00:00Z`,
    host: 'workstation',
    added: 5,
    machines: names.map((name) => ({
      id: name,
      name,
      directory: `/${name}`,
      consistency: 'stopped',
      size: 10,
    })),
  };
}
const all = [backup('a', 1, 'web'), backup('b', 2, 'web', 'db'), backup('c', 3, 'mail')];

describe('backups', () => {
  it('stand newest first, of one machine where one is chosen', () => {
    expect(shownBackups(all, '').map(({ id }) => id)).toEqual(['c', 'b', 'a']);
    expect(shownBackups(all, 'web').map(({ id }) => id)).toEqual(['b', 'a']);
    expect(machineNames(all)).toEqual(['db', 'mail', 'web']);
    expect(all.map(namesIn)).toEqual(['web', 'web, db', 'mail']);
    expect(all.map(sizeOf)).toEqual([10, 20, 10]);
  });

  it('say of which machines none would be left', () => {
    expect(lastOnes(all, all.slice(0, 1))).toEqual([]);
    expect(lastOnes(all, all.slice(1, 2))).toEqual(['db']);
    expect(lastOnes(all, all)).toEqual(['db', 'mail', 'web']);
  });
});

describe('folders', () => {
  it('are remembered once, whatever way they are written', () => {
    rememberFolder('/media/usb/backups/');
    rememberFolder(' /media/usb/backups');
    expect(folders.value).toEqual(['/media/usb/backups']);
    expect(folderName('/media/usb/backups')).toBe('backups');
    expect([plainPath('/'), folderName('/')]).toEqual(['/', '/']);
    leaveFolder('/media/usb/backups');
    expect(folders.value).toEqual([]);
  });
});

describe('passwords', () => {
  it('go with their folder’s requests, are stored nowhere, and are forgotten with the page', () => {
    const scope = effectScope();
    scope.run(usePasswords);
    givePassword('/a', 'hush');
    expect(folderRequest('/a')).toEqual({ directory: '/a', password: 'hush' });
    expect(folderRequest('/b')).toEqual({ directory: '/b' });
    expect(JSON.stringify({ ...localStorage, ...sessionStorage })).not.toContain('hush');
    scope.stop();
    expect(folderRequest('/a')).toEqual({ directory: '/a' });
  });
});

describe('a new password', () => {
  it('is shown until somebody says that it is kept', async () => {
    const repository = { directory: '/a', password: 'correct horse', remembered: false };
    const i18n = createI18n({ legacy: false, locale: 'en', messages: { en } });
    const dialog = mount(NewPassword, { props: { repository }, global: { plugins: [i18n] } });
    expect(dialog.text()).toContain('correct horse');
    expect(dialog.text()).toContain('you will be asked for it');
    await dialog.get('dialog').trigger('cancel');
    expect(dialog.emitted('close')).toBeUndefined();
    await dialog.get('[role=switch]').setValue(true);
    await dialog.get('.btn-primary').trigger('click');
    expect(dialog.emitted('close')).toHaveLength(1);
  });
});
