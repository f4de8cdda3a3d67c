import js from '@eslint/js';
import prettier from 'eslint-config-prettier';
import vue from 'eslint-plugin-vue';
import globals from 'globals';
import { defineConfig } from 'eslint/config';
import { readdirSync } from 'node:fs';
import ts from 'typescript-eslint';

const features = readdirSync(new URL('./src/features', import.meta.url), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map((entry) => entry.name);

const tauri = {
  group: ['@tauri-apps/*'],
  message: 'Only src/api/platform speaks to Tauri; use @/api/platform.',
};
const reachUp = (...folders) => ({
  group: folders.flatMap((folder) => [`@/${folder}`, `@/${folder}/**`, `**/../${folder}/**`]),
  message: 'This folder is nearer to the outside; the dependency goes the other way.',
});
const platformInsides = {
  group: ['@/api/platform/*', '**/api/platform/*'],
  message: 'Use @/api/platform: which transport runs is decided there.',
};
const restrict = (...patterns) => ({ 'no-restricted-imports': ['error', { patterns }] });

export default defineConfig(
  { ignores: ['dist/', 'coverage/', 'src/api/generated/'] },
  js.configs.recommended,
  ...ts.configs.strict,
  ...ts.configs.stylistic,
  ...vue.configs['flat/recommended'],
  {
    files: ['**/*.{ts,vue}'],
    languageOptions: { parserOptions: { parser: ts.parser }, globals: globals.browser },
    rules: {
      // TypeScript knows the globals better.
      'no-undef': 'off',
      'no-console': 'error',
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/consistent-type-definitions': ['error', 'interface'],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      'vue/block-order': ['error', { order: ['script', 'template', 'style'] }],
      'vue/component-api-style': ['error', ['script-setup']],
      'vue/define-macros-order': 'error',
      'vue/no-v-html': 'error',
      'vue/block-lang': ['error', { script: { lang: 'ts' } }],
      'vue/require-default-prop': 'off',
      'vue/multi-word-component-names': 'off',
      'vue/no-undef-components': ['error', { ignorePatterns: ['RouterLink', 'RouterView'] }],
      'max-lines': ['error', { max: 500, skipBlankLines: true, skipComments: true }],
    },
  },
  // generated and client <- platform; shared <- stores <- features <- views <- app
  { files: ['src/**/*.{ts,vue}'], rules: restrict(tauri, platformInsides) },
  {
    files: ['src/api/**/*.ts'],
    rules: restrict(tauri, platformInsides, reachUp('features', 'views', 'app')),
  },
  { files: ['src/api/platform/**/*.{ts,vue}'], rules: restrict(reachUp('features', 'views', 'app')) },
  {
    files: ['src/shared/**/*.{ts,vue}'],
    rules: restrict(tauri, platformInsides, reachUp('features', 'views', 'app')),
  },
  ...features.map((own) => ({
    files: [`src/features/${own}/**/*.{ts,vue}`],
    rules: restrict(tauri, platformInsides, reachUp('views', 'app'), {
      group: [
        '@/features/*/**',
        ...features
          .filter((other) => other !== own)
          .flatMap((other) => [`../${other}/**`, `../../${other}/**`]),
      ],
      message:
        'Features do not reach inside one another: import the feature itself, or move what is common to shared.',
    }),
  })),
  {
    files: ['src/views/**/*.{ts,vue}', 'src/app/**/*.{ts,vue}'],
    rules: restrict(tauri, platformInsides, {
      group: ['@/features/*/**'],
      message: 'Import the feature itself (@/features/name), not its insides.',
    }),
  },
  {
    files: ['tests/**/*.mjs', '*.config.{js,ts}', 'tests/**/*.js'],
    languageOptions: { globals: { ...globals.node, ...globals.browser } },
    rules: { 'no-console': 'off' },
  },
  prettier,
);
