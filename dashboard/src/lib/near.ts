/** Which of many elements of the page can be seen, so that the others need not follow figures that nobody reads. */

/** Before it is seen it is as new as the others. */
const MARGIN = '100px 0px';

const told = new Map<Element, (near: boolean) => void>();
let observer: IntersectionObserver | undefined;

/** An attachment: says whether the element can be seen, or nearly, each time that this changes. */
export function near(say: (near: boolean) => void) {
  return (node: Element) => {
    observer ??= new IntersectionObserver((seen) => seen.forEach((one) => told.get(one.target)?.(one.isIntersecting)), { root: document.querySelector('main'), rootMargin: MARGIN });
    told.set(node, say);
    observer.observe(node);
    return () => {
      observer?.unobserve(node);
      told.delete(node);
    };
  };
}
