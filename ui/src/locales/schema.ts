/** What every language has to say: the keys of the English texts, with any words. */
import type en from './en';

/** The same keys as `T`, all the way down, each a text. */
export type Same<T> = { readonly [K in keyof T]: T[K] extends string ? string : Same<T[K]> };

export type Messages = Same<typeof en>;

export const languages = ['en', 'zh-CN'] as const;
export type LanguageCode = (typeof languages)[number];

declare module 'vue-i18n' {
  // eslint-disable-next-line @typescript-eslint/no-empty-object-type
  export interface DefineLocaleMessage extends Messages {}
}
