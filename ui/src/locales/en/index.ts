import common from './common';
import errors from './errors';
import palette from './palette';
import shell from './shell';
import vm from './vm';

export default { common, errors, palette, shell, vm };
