//! Where the parts of the screen are.

use ratatui::layout::Rect;

/// Height from which the list has a line of heads, and the header a second line.
const TALL: u16 = 14;

/// The parts of the screen, from top to bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TopLayout {
    pub header: Rect,
    /// The heads of the columns, of the height 0 on a low screen.
    pub heads: Rect,
    pub list: Rect,
    /// The line between the list and the conversation.
    pub title: Rect,
    pub conversation: Rect,
    pub footer: Rect,
}

/// What the parts of the screen need.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayoutNeeds {
    /// Number of rows of the list.
    pub jobs: usize,
    /// Height of the footer.
    pub footer: u16,
    /// The header has a second line.
    pub has_notes: bool,
    /// The conversation gives way to the choices of an answer.
    pub is_answering: bool,
}

impl TopLayout {
    /// Returns the layout of a screen.
    pub(super) fn new((width, height): (u16, u16), needs: &LayoutNeeds) -> Self {
        let is_tall = height >= TALL;
        let mut left = height;
        let mut take = |wanted: u16| {
            let taken = wanted.min(left);
            left -= taken;
            taken
        };
        let footer = take(needs.footer);
        let header = take(if is_tall && needs.has_notes { 2 } else { 1 });
        let heads = take(u16::from(is_tall));
        let title = take(1);
        // The conversation gets most of the rest.
        let body = left;
        let (fifths, least) = if needs.is_answering { (1, 1) } else { (2, 3) };
        let most = (body * fifths / 5).max(least).min(body);
        let list =
            u16::try_from(needs.jobs).unwrap_or(u16::MAX).clamp(1.min(body), most.max(1.min(body)));
        let heights = [header, heads, list, title, body - list, footer];
        let mut rects = [Rect::default(); 6];
        let mut y = 0;
        for (rect, height) in rects.iter_mut().zip(heights) {
            *rect = Rect { x: 0, y, width, height };
            y += height;
        }
        let [header, heads, list, title, conversation, footer] = rects;
        Self { header, heads, list, title, conversation, footer }
    }

    /// Returns the number of rows of the list.
    pub(super) fn rows(&self) -> u16 {
        self.list.height
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_fill_every_size() {
        for height in 0..60 {
            for jobs in [0, 1, 5, 1_000] {
                for has_notes in [false, true] {
                    let needs =
                        LayoutNeeds { jobs, footer: 1, has_notes, is_answering: !has_notes };
                    let layout = TopLayout::new((80, height), &needs);
                    let TopLayout { header, heads, list, title, conversation, footer } = layout;
                    let parts = [header, heads, list, title, conversation, footer];
                    let sum: u16 = parts.iter().map(|part| part.height).sum();
                    assert_eq!(sum, height, "{layout:?}");
                    assert!(height < 4 || list.height > 0, "{layout:?}");
                    assert!(height < 10 || conversation.height >= list.height, "{layout:?}");
                }
            }
        }
    }
}
