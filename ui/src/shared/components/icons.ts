/** The icons in use, each bundled by itself: add the one you need, by its name in bootstrap-icons. */
import activity from 'bootstrap-icons/icons/activity.svg?raw';
import archive from 'bootstrap-icons/icons/archive.svg?raw';
import arrowClockwise from 'bootstrap-icons/icons/arrow-clockwise.svg?raw';
import arrowCounterclockwise from 'bootstrap-icons/icons/arrow-counterclockwise.svg?raw';
import arrowDownUp from 'bootstrap-icons/icons/arrow-down-up.svg?raw';
import arrowLeft from 'bootstrap-icons/icons/arrow-left.svg?raw';
import arrowRepeat from 'bootstrap-icons/icons/arrow-repeat.svg?raw';
import arrowUp from 'bootstrap-icons/icons/arrow-up.svg?raw';
import arrowsExpand from 'bootstrap-icons/icons/arrows-expand.svg?raw';
import aspectRatio from 'bootstrap-icons/icons/aspect-ratio.svg?raw';
import bandaid from 'bootstrap-icons/icons/bandaid.svg?raw';
import bookmark from 'bootstrap-icons/icons/bookmark.svg?raw';
import bookmarkPlus from 'bootstrap-icons/icons/bookmark-plus.svg?raw';
import boxArrowDown from 'bootstrap-icons/icons/box-arrow-down.svg?raw';
import boxArrowRight from 'bootstrap-icons/icons/box-arrow-right.svg?raw';
import boxArrowUpRight from 'bootstrap-icons/icons/box-arrow-up-right.svg?raw';
import boxSeam from 'bootstrap-icons/icons/box-seam.svg?raw';
import calendarWeek from 'bootstrap-icons/icons/calendar-week.svg?raw';
import camera from 'bootstrap-icons/icons/camera.svg?raw';
import checkCircle from 'bootstrap-icons/icons/check-circle.svg?raw';
import checkCircleFill from 'bootstrap-icons/icons/check-circle-fill.svg?raw';
import checkLg from 'bootstrap-icons/icons/check-lg.svg?raw';
import chevronDown from 'bootstrap-icons/icons/chevron-down.svg?raw';
import chevronLeft from 'bootstrap-icons/icons/chevron-left.svg?raw';
import chevronRight from 'bootstrap-icons/icons/chevron-right.svg?raw';
import chevronUp from 'bootstrap-icons/icons/chevron-up.svg?raw';
import circle from 'bootstrap-icons/icons/circle.svg?raw';
import circleHalf from 'bootstrap-icons/icons/circle-half.svg?raw';
import clipboard from 'bootstrap-icons/icons/clipboard.svg?raw';
import clockHistory from 'bootstrap-icons/icons/clock-history.svg?raw';
import cloudDownload from 'bootstrap-icons/icons/cloud-download.svg?raw';
import collection from 'bootstrap-icons/icons/collection.svg?raw';
import copy from 'bootstrap-icons/icons/copy.svg?raw';
import cpu from 'bootstrap-icons/icons/cpu.svg?raw';
import dashLg from 'bootstrap-icons/icons/dash-lg.svg?raw';
import database from 'bootstrap-icons/icons/database.svg?raw';
import deviceHdd from 'bootstrap-icons/icons/device-hdd.svg?raw';
import diagram2 from 'bootstrap-icons/icons/diagram-2.svg?raw';
import disc from 'bootstrap-icons/icons/disc.svg?raw';
import display from 'bootstrap-icons/icons/display.svg?raw';
import download from 'bootstrap-icons/icons/download.svg?raw';
import eraser from 'bootstrap-icons/icons/eraser.svg?raw';
import ethernet from 'bootstrap-icons/icons/ethernet.svg?raw';
import exclamationCircle from 'bootstrap-icons/icons/exclamation-circle.svg?raw';
import exclamationCircleFill from 'bootstrap-icons/icons/exclamation-circle-fill.svg?raw';
import exclamationTriangle from 'bootstrap-icons/icons/exclamation-triangle.svg?raw';
import exclamationTriangleFill from 'bootstrap-icons/icons/exclamation-triangle-fill.svg?raw';
import eye from 'bootstrap-icons/icons/eye.svg?raw';
import eyeSlash from 'bootstrap-icons/icons/eye-slash.svg?raw';
import fileEarmark from 'bootstrap-icons/icons/file-earmark.svg?raw';
import files from 'bootstrap-icons/icons/files.svg?raw';
import floppy from 'bootstrap-icons/icons/floppy.svg?raw';
import folder from 'bootstrap-icons/icons/folder.svg?raw';
import folderPlus from 'bootstrap-icons/icons/folder-plus.svg?raw';
import folder2Open from 'bootstrap-icons/icons/folder2-open.svg?raw';
import fullscreen from 'bootstrap-icons/icons/fullscreen.svg?raw';
import fullscreenExit from 'bootstrap-icons/icons/fullscreen-exit.svg?raw';
import gear from 'bootstrap-icons/icons/gear.svg?raw';
import globe2 from 'bootstrap-icons/icons/globe2.svg?raw';
import graphUp from 'bootstrap-icons/icons/graph-up.svg?raw';
import grid3x3Gap from 'bootstrap-icons/icons/grid-3x3-gap.svg?raw';
import gripVertical from 'bootstrap-icons/icons/grip-vertical.svg?raw';
import hdd from 'bootstrap-icons/icons/hdd.svg?raw';
import hddStack from 'bootstrap-icons/icons/hdd-stack.svg?raw';
import heartPulse from 'bootstrap-icons/icons/heart-pulse.svg?raw';
import house from 'bootstrap-icons/icons/house.svg?raw';
import inboxes from 'bootstrap-icons/icons/inboxes.svg?raw';
import infoCircle from 'bootstrap-icons/icons/info-circle.svg?raw';
import inputCursorText from 'bootstrap-icons/icons/input-cursor-text.svg?raw';
import intersect from 'bootstrap-icons/icons/intersect.svg?raw';
import key from 'bootstrap-icons/icons/key.svg?raw';
import keyboard from 'bootstrap-icons/icons/keyboard.svg?raw';
import keyboardFill from 'bootstrap-icons/icons/keyboard-fill.svg?raw';
import layers from 'bootstrap-icons/icons/layers.svg?raw';
import lightningCharge from 'bootstrap-icons/icons/lightning-charge.svg?raw';
import link45deg from 'bootstrap-icons/icons/link-45deg.svg?raw';
import listTask from 'bootstrap-icons/icons/list-task.svg?raw';
import listUl from 'bootstrap-icons/icons/list-ul.svg?raw';
import lock from 'bootstrap-icons/icons/lock.svg?raw';
import memory from 'bootstrap-icons/icons/memory.svg?raw';
import moon from 'bootstrap-icons/icons/moon.svg?raw';
import moonStars from 'bootstrap-icons/icons/moon-stars.svg?raw';
import pauseFill from 'bootstrap-icons/icons/pause-fill.svg?raw';
import pcDisplay from 'bootstrap-icons/icons/pc-display.svg?raw';
import pencil from 'bootstrap-icons/icons/pencil.svg?raw';
import playFill from 'bootstrap-icons/icons/play-fill.svg?raw';
import plug from 'bootstrap-icons/icons/plug.svg?raw';
import plusCircle from 'bootstrap-icons/icons/plus-circle.svg?raw';
import plusLg from 'bootstrap-icons/icons/plus-lg.svg?raw';
import power from 'bootstrap-icons/icons/power.svg?raw';
import questionCircle from 'bootstrap-icons/icons/question-circle.svg?raw';
import recycle from 'bootstrap-icons/icons/recycle.svg?raw';
import search from 'bootstrap-icons/icons/search.svg?raw';
import send from 'bootstrap-icons/icons/send.svg?raw';
import shieldCheck from 'bootstrap-icons/icons/shield-check.svg?raw';
import shieldExclamation from 'bootstrap-icons/icons/shield-exclamation.svg?raw';
import sliders from 'bootstrap-icons/icons/sliders.svg?raw';
import sortDown from 'bootstrap-icons/icons/sort-down.svg?raw';
import speedometer2 from 'bootstrap-icons/icons/speedometer2.svg?raw';
import star from 'bootstrap-icons/icons/star.svg?raw';
import starFill from 'bootstrap-icons/icons/star-fill.svg?raw';
import stopFill from 'bootstrap-icons/icons/stop-fill.svg?raw';
import sun from 'bootstrap-icons/icons/sun.svg?raw';
import tags from 'bootstrap-icons/icons/tags.svg?raw';
import terminal from 'bootstrap-icons/icons/terminal.svg?raw';
import threeDots from 'bootstrap-icons/icons/three-dots.svg?raw';
import translate from 'bootstrap-icons/icons/translate.svg?raw';
import trash from 'bootstrap-icons/icons/trash.svg?raw';
import tux from 'bootstrap-icons/icons/tux.svg?raw';
import ubuntu from 'bootstrap-icons/icons/ubuntu.svg?raw';
import usbSymbol from 'bootstrap-icons/icons/usb-symbol.svg?raw';
import windows from 'bootstrap-icons/icons/windows.svg?raw';
import wrench from 'bootstrap-icons/icons/wrench.svg?raw';
import xLg from 'bootstrap-icons/icons/x-lg.svg?raw';
import zoomIn from 'bootstrap-icons/icons/zoom-in.svg?raw';
import zoomOut from 'bootstrap-icons/icons/zoom-out.svg?raw';

export const icons = {
  activity,
  archive,
  'arrow-clockwise': arrowClockwise,
  'arrow-counterclockwise': arrowCounterclockwise,
  'arrow-down-up': arrowDownUp,
  'arrow-left': arrowLeft,
  'arrow-repeat': arrowRepeat,
  'arrow-up': arrowUp,
  'arrows-expand': arrowsExpand,
  'aspect-ratio': aspectRatio,
  bandaid,
  bookmark,
  'bookmark-plus': bookmarkPlus,
  'box-arrow-down': boxArrowDown,
  'box-arrow-right': boxArrowRight,
  'box-arrow-up-right': boxArrowUpRight,
  'box-seam': boxSeam,
  'calendar-week': calendarWeek,
  camera,
  'check-circle': checkCircle,
  'check-circle-fill': checkCircleFill,
  'check-lg': checkLg,
  'chevron-down': chevronDown,
  'chevron-left': chevronLeft,
  'chevron-right': chevronRight,
  'chevron-up': chevronUp,
  circle,
  'circle-half': circleHalf,
  clipboard,
  'clock-history': clockHistory,
  'cloud-download': cloudDownload,
  collection,
  copy,
  cpu,
  'dash-lg': dashLg,
  database,
  'device-hdd': deviceHdd,
  'diagram-2': diagram2,
  disc,
  display,
  download,
  eraser,
  ethernet,
  'exclamation-circle': exclamationCircle,
  'exclamation-circle-fill': exclamationCircleFill,
  'exclamation-triangle': exclamationTriangle,
  'exclamation-triangle-fill': exclamationTriangleFill,
  eye,
  'eye-slash': eyeSlash,
  'file-earmark': fileEarmark,
  files,
  floppy,
  folder,
  'folder-plus': folderPlus,
  'folder2-open': folder2Open,
  fullscreen,
  'fullscreen-exit': fullscreenExit,
  gear,
  globe2,
  'graph-up': graphUp,
  'grid-3x3-gap': grid3x3Gap,
  'grip-vertical': gripVertical,
  hdd,
  'hdd-stack': hddStack,
  'heart-pulse': heartPulse,
  house,
  inboxes,
  'info-circle': infoCircle,
  'input-cursor-text': inputCursorText,
  intersect,
  key,
  keyboard,
  'keyboard-fill': keyboardFill,
  layers,
  'lightning-charge': lightningCharge,
  'link-45deg': link45deg,
  'list-task': listTask,
  'list-ul': listUl,
  lock,
  memory,
  moon,
  'moon-stars': moonStars,
  'pause-fill': pauseFill,
  'pc-display': pcDisplay,
  pencil,
  'play-fill': playFill,
  plug,
  'plus-circle': plusCircle,
  'plus-lg': plusLg,
  power,
  'question-circle': questionCircle,
  recycle,
  search,
  send,
  'shield-check': shieldCheck,
  'shield-exclamation': shieldExclamation,
  sliders,
  'sort-down': sortDown,
  speedometer2,
  star,
  'star-fill': starFill,
  'stop-fill': stopFill,
  sun,
  tags,
  terminal,
  'three-dots': threeDots,
  translate,
  trash,
  tux,
  ubuntu,
  'usb-symbol': usbSymbol,
  windows,
  wrench,
  'x-lg': xLg,
  'zoom-in': zoomIn,
  'zoom-out': zoomOut,
} as const;

export type IconName = keyof typeof icons;
