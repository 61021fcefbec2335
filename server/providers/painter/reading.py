"""What a prompt asks for, as far as the painter knows the words (English and Chinese)."""

from __future__ import annotations

import re
from collections.abc import Mapping

Words = Mapping[str, str]
"""Meaning to the words that say it, separated by spaces; a hyphen stands for a space or a hyphen."""

KINDS: Words = {
    "mountains": "mountain hill peak alps cliff valley canyon volcano fuji 山 峰 岭 峡谷 高原 火山",
    "lake": "lake river pond stream waterfall fjord 湖 河 江 溪 池 瀑布",
    "sea": "sea ocean beach coast seaside island wave surf sail boat ship harbor harbour "
    "海 洋 沙滩 岛 浪 港 船 帆",
    "forest": "forest wood jungle tree bamboo grove 森林 树 林 竹 丛林",
    "city": "city cities town street skyline skyscraper tower building downtown shanghai tokyo cyberpunk "
    "城 街 都市 楼 上海 北京 东京 赛博朋克",
    "desert": "desert dune sand sahara camel cactus oasis pyramid egypt "
    "沙漠 沙丘 戈壁 骆驼 仙人掌 绿洲 金字塔 埃及",
    "garden": "garden flower meadow field blossom rose tulip sunflower park grass lawn farm village "
    "countryside butterfly butterflies 花 草 田 公园 蝴蝶 农场 村 玫瑰 向日葵",
    "space": "space planet galaxy universe cosmos nebula astronaut rocket alien mars saturn "
    "太空 宇宙 星球 银河 星云 火星 外星 宇航 火箭",
}
SUBJECTS: Words = {
    "cat": "cat kitten kitty 猫 喵",
    "dog": "dog puppy puppies corgi shiba husky 狗 犬",
    "fox": "fox 狐",
    "rabbit": "rabbit bunny bunnies hare 兔",
    "panda": "panda 熊猫",
    "boat": "boat ship sail sailboat yacht 船 帆 舟",
    "house": "house cabin cottage hut home farmhouse barn village 房 屋 家 村",
    "lighthouse": "lighthouse 灯塔",
    "balloon": "balloon 气球",
    "pagoda": "temple pagoda shrine palace castle 塔 寺 庙 宫 亭",
    "wanderer": "wanderer traveller traveler hiker man woman girl boy person people child kid walker knight "
    "samurai wizard princess astronaut portrait 人 女孩 男孩 少女 少年 孩 旅 侠 公主 姑娘 宇航员",
}
HOURS: Words = {
    "dawn": "dawn sunrise morning daybreak 日出 清晨 早晨 黎明 朝霞 晨",
    "day": "noon daytime sunny day daylight summer spring 白天 中午 正午 阳光 晴 午后 春 夏",
    "sunset": "sunset golden evening autumn fall 日落 夕阳 黄昏 傍晚 晚霞 秋",
    "dusk": "dusk twilight 暮 薄暮",
    "night": "night midnight moon moonlight star starry starlight aurora neon dark firefly fireflies "
    "夜 月 星空 星 极光 霓虹 萤火虫 黑暗",
}
MOODS: Words = {
    "ink": "ink monochrome sumi black-and-white 水墨 国画 黑白 墨",
    "rose": "pink rose cherry sakura romantic 粉 樱 玫瑰 浪漫",
    "lavender": "purple violet lavender dreamy cyberpunk 紫 薰衣草 梦幻 赛博朋克",
    "lagoon": "teal turquoise cyan tropical 青 热带 碧",
    "amber": "gold golden amber yellow autumn 金 黄 秋",
    "ember": "red orange fire warm 红 橙 火 暖",
    "mint": "mint green fresh spring 绿 清新 春",
    "clear": "blue sky realistic 蓝 天空 写实",
}
FEATURES: Words = {
    "snow": "snow snowy winter ice icy christmas arctic glacier 雪 冬 冰 圣诞",
    "rain": "rain rainy storm stormy 雨 暴风",
    "water": "lake river sea ocean bay harbor harbour reflection shanghai 湖 河 海 江 水 倒影 港",
    "bamboo": "bamboo panda 竹 熊猫",
    "pyramid": "pyramid egypt 金字塔 埃及",
    "neon": "neon cyberpunk 霓虹 赛博朋克",
    "aurora": "aurora northern-lights 极光",
    "blossom": "sakura cherry blossom spring plum peach 樱 桃花 梅花 春",
    "autumn": "autumn fall maple 秋 枫",
}
COATS: Words = {
    "black": "black 黑",
    "white": "white 白",
    "grey": "grey gray blue 灰 蓝",
    "ginger": "orange ginger red yellow golden 橘 橙 黄 红",
}
ELEMENTS: Words = {
    "sun": "sun 太阳",
    "moon": "moon 月",
    "stars": "star 星",
    "clouds": "cloud cloudy 云",
    "birds": "bird 鸟",
    "trees": "tree 树",
    "flowers": "flower 花",
    "subject": "people person human man woman animal cat dog boat 人 动物 猫 狗 船",
    "mist": "mist misty fog foggy haze 雾",
}


def first(words: Words, text: str) -> str | None:
    """The meaning whose word stands first in the text; of two words at one place the longer counts."""
    found = [
        (place, -length, meaning) for meaning in words for place, length in _places(words[meaning], text)
    ]
    return min(found)[2] if found else None


def every(words: Words, text: str) -> frozenset[str]:
    """All meanings that the text names."""
    return frozenset(meaning for meaning in words if _places(words[meaning], text))


def _places(words: str, text: str) -> list[tuple[int, int]]:
    """Where words first start in the text, and their lengths; Latin words stand alone, singular or plural."""
    text = text.lower()
    places = []
    for word in words.split():
        if word.isascii():
            match = re.search(rf"(?<![a-z]){word.replace('-', '[ -]')}(?:s|es)?(?![a-z])", text)
            place = match.start() if match else -1
        else:
            place = text.find(word)
        if place >= 0:
            places.append((place, len(word)))
    return places
