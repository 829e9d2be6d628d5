//! How much room a drawing has.

/// A drawing is made for the window it is seen in: letters keep their size, and
/// what is between them gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Size {
    /// A desk, or paper.
    Wide,
    /// A phone.
    Narrow,
    /// One of several side by side, in any window.
    Small,
}

impl Size {
    /// Its width, of which a unit is about a pixel.
    pub(super) const fn width(self) -> f64 {
        match self {
            Self::Wide => 880.0,
            Self::Narrow => 350.0,
            Self::Small => 320.0,
        }
    }

    /// The height of a chart.
    pub(super) const fn height(self) -> f64 {
        match self {
            Self::Wide => 360.0,
            Self::Narrow => 290.0,
            Self::Small => 230.0,
        }
    }

    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Narrow => "narrow",
            Self::Small => "small",
        }
    }

    /// Whether there is room for words beside the drawing.
    pub(super) const fn is_wide(self) -> bool {
        matches!(self, Self::Wide)
    }
}
