/** The image library: what machines are made from. */
export { openDownload, openImport } from './actions';
export { default as CatalogueList } from './CatalogueList.vue';
export { default as LibraryBrowser } from './LibraryBrowser.vue';
